"""Which assignment protocol a group uses: every member votes for the one it prefers among those that all support.

A tie goes to the protocol that the longest member prefers, so that the same members always select the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from penstock.groups.members import Member


def common_protocols(members: Iterable[Member]) -> list[str]:
    """Names that every member offers, in the first member's order of preference."""
    offers = [[name for name, _ in member.protocols] for member in members]
    if not offers:
        return []
    shared = set(offers[0]).intersection(*offers[1:])
    return list(dict.fromkeys(name for name in offers[0] if name in shared))


def select_protocol(members: Iterable[Member]) -> str:
    """The protocol with most votes. Joining already refused members without a common one."""
    voters = list(members)
    candidates = common_protocols(voters)
    assert candidates, "members without a common protocol were let into one group"
    votes = Counter(next(name for name, _ in member.protocols if name in candidates) for member in voters)
    return max(candidates, key=lambda name: votes[name])


def is_compatible(protocols: Iterable[tuple[str, bytes]], others: Iterable[Member]) -> bool:
    """Whether a member with these protocols can share one with all the others."""
    names = {name for name, _ in protocols}
    for member in others:
        names.intersection_update(name for name, _ in member.protocols)
    return bool(names)
