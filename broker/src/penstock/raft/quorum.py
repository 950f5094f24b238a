"""Majorities: when a vote is decided, and how far enough members hold the log.

No voters at all decide everything at once, as a condition that nobody has to meet; whoever asks on behalf of a real
group makes sure that it has voters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

# More than any index: how far a group without voters agrees.
EVERYTHING = 2**64 - 1


class VoteResult(Enum):
    """`PENDING`: the missing votes can still decide it either way."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def vote_result(voters: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """How the election stands; votes of others than `voters` do not count."""
    needed = len(voters) // 2 + 1 if voters else 0
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


def agreed_index(indexes: list[int]) -> int:
    """The largest index that a majority has reached; `indexes` has one number for each voter, in any order."""
    if not indexes:
        return EVERYTHING
    indexes.sort()
    return indexes[(len(indexes) - 1) // 2]
