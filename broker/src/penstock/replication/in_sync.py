"""Which members follow a master closely enough to be in its in-sync set, told whenever that changes.

A member is level when it holds what was the log's end a moment ago, and was heard of: how much is written in that moment
does not matter. One that was level within the bound is close, unless the connection to it has ended: its process ended or
cannot be reached, and commits need not wait until the bound is over.

Under `replication: sync` close is not enough to join: it has to hold all that is committed at the moment when it is
proposed, and while others commit without it, it is always a little behind. So it joins in two steps. A close member is
counted for commits at once, which then wait for it, and is proposed when it holds everything that is committed. That takes
about as long as one message; one that falls back meanwhile is no longer waited for. Who is to leave the shard leaves the set
before, however close it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

# A member that was not level for so long does not follow closely.
LAG_MS_MAX = 2_000


class Follower(msgspec.Struct, frozen=True):
    """A member as its master sees it: its log matches up to `match`; `heard`: it was heard of lately; `votes`: it is a full
    member of the shard, no learner; `gone`: the connection to it has ended."""

    member: int
    match: int
    heard: bool
    votes: bool
    gone: bool = False


class Changes(msgspec.Struct, frozen=True):
    """What became of members since the last look, each ascending. Who caught up holds everything committed."""

    caught_up: tuple[int, ...] = ()
    fell_behind: tuple[int, ...] = ()


class _Member:
    """What is remembered of one: the log's end that it has to reach to be level and when that was the end, when it was level
    last, what was told of it, and whether it was a full member."""

    __slots__ = ("goal", "goal_ms", "level_ms", "told", "votes")

    def __init__(self, goal: int, goal_ms: int, told: bool | None) -> None:
        self.goal = goal
        self.goal_ms = goal_ms
        self.level_ms: int | None = None
        self.told = told
        self.votes = False


class InSync:
    """One leadership's view. `joining` are those for whom commits have to wait although no set names them yet."""

    def __init__(self, began_ms: int, *, waits: bool, lag_ms_max: int = LAG_MS_MAX) -> None:
        """`waits`: commits wait for the members of the sets, and so for those who join."""
        self.joining: frozenset[int] = frozenset()
        self._began_ms = began_ms
        self._waits = waits
        self._lag_ms_max = lag_ms_max
        self._members: dict[int, _Member] = {}

    def look(
        self,
        now_ms: int,
        last: int,
        committed: int | None,
        followers: Sequence[Follower],
        named: Collection[int],
        leaving: Collection[int] = (),
    ) -> Changes:
        """Every follower as it is now, the log's end and what is committed, None while the master does not know all that its
        predecessors committed: nobody catches up with that. `named` are the members of the in-sync sets but for the master,
        also those that follow no more. Who is `leaving` is to leave the shard. Before anybody is told of the changes, commits
        wait for `joining`."""
        by_member = {each.member: each for each in followers}
        present = sorted({*by_member, *named})
        for member in present:
            if member not in self._members:
                # Whoever the sets name was in sync before this leadership.
                self._members[member] = _Member(last, now_ms, True if member in named else None)
        caught_up, fell_behind, joining = [], [], set()
        for member in sorted(self._members.keys() - set(present)):
            # It is no member any more.
            if self._members.pop(member).told:
                fell_behind.append(member)
        for member in present:
            kept, follower = self._members[member], by_member.get(member)
            if follower is not None:
                _note(kept, follower, now_ms, last)
            gone = follower is not None and follower.gone
            if member in leaving:
                if kept.told:
                    fell_behind.append(member)
                kept.told = False
            elif follower is not None and follower.votes and not gone and self._is_close(kept, now_ms):
                if self._waits and member not in named:
                    joining.add(member)
                holds_all = committed is not None and follower.match >= committed
                if kept.told is not True and (holds_all or not self._waits):
                    kept.told = True
                    caught_up.append(member)
            elif kept.told and (gone or now_ms - max(kept.level_ms or 0, self._began_ms) > self._lag_ms_max):
                kept.told = False
                fell_behind.append(member)
        self.joining = frozenset(joining)
        return Changes(tuple(caught_up), tuple(fell_behind))

    def _is_close(self, kept: _Member, now_ms: int) -> bool:
        return kept.level_ms is not None and now_ms - kept.level_ms <= self._lag_ms_max


def _note(kept: _Member, follower: Follower, now_ms: int, last: int) -> None:
    if follower.gone or (follower.votes and not kept.votes):
        # It has to reach the log's end of its return; and one that leads next, the entry that made it a full member.
        kept.level_ms, kept.goal, kept.goal_ms = None, last, now_ms
    elif follower.heard and follower.match >= kept.goal:
        kept.level_ms = kept.goal_ms
        kept.goal, kept.goal_ms = last, now_ms
    kept.votes = follower.votes
