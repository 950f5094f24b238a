"""The feature level of a shard: which commands its log may hold.

Each release knows every command up to its own highest level. A shard's level is an entry like others, so every member
sees it change at the same place; it is raised when all members, voters and learners, are there and know more, and never
sinks. Commands of a level are used from then on. So a broker may go back to the release before while the level is still
the one that both know, and one that knows less than the shard uses is refused before it reads what it cannot.

| level | since then |
| --- | --- |
| 1 | the commands of the first replicated shards |
| 2 | announcements say where HTTP listeners are bound; replicas compare hashes of their state |
| 3 | the number of brokers that the shard should have stands in its log |
| 4 | groups of mode `queue` lease their messages one by one |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# The highest level that this release knows.
FEATURE_LEVEL = 4
# Level by level, what came with it.
HTTP_ANNOUNCED_LEVEL = 2
STATE_HASHED_LEVEL = 2
RESIZED_LEVEL = 3


def level_to_raise(
    members: Iterable[int], announced: Mapping[int, int], connected: Mapping[int, int], level: int
) -> int | None:
    """The level that the leader may raise the shard's to, or None. `members` are all that the log names; what each knows is
    what it announced and what its connection says: it may have gone back to another release since."""
    known = [min(announced.get(member, 0), connected.get(member, 0)) for member in members]
    lowest = min(known, default=0)
    return lowest if lowest > level else None


def why_too_old(name: str, known: int, level: int) -> str | None:
    """Why the broker `name`, whose release knows level `known`, cannot be a member of a shard of `level`; or None."""
    if known >= level:
        return None
    return f"the shard uses feature level {level}, the release of {name} knows {known}: upgrade it"
