"""Who the members are, and the single steps by which that changes.

A change moves at most one voter, so that any majority before it and any majority after it share a member (thesis,
section 4.1); it takes effect on each member as soon as that member's log holds it, and the next may only be proposed when
it is applied. Joint configurations, which move several voters at once, are not built.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class ChangeKind(StrEnum):
    """What happens to one member. `update` changes nothing here: it carries something else through the log. `alone` drops
    everybody else: the way out of a quorum that is lost for good, proposed only by a member that is alone already because
    a person said so."""

    VOTER = "voter"
    LEARNER = "learner"
    REMOVE = "remove"
    UPDATE = "update"
    ALONE = "alone"


class Change(msgspec.Struct, frozen=True, gc=False):
    """One step: make `member` a voter or a learner, whatever it was before, or remove it; or leave nobody but it."""

    kind: ChangeKind
    member: int


class ChangeError(Exception):
    """The change cannot be made from the present configuration; `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Configuration(msgspec.Struct, frozen=True, gc=False):
    """Voters and learners, each ascending and without repetition; nobody is both."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()

    @property
    def members(self) -> tuple[int, ...]:
        """Voters and learners, ascending."""
        return tuple(sorted(self.voters + self.learners))

    def __contains__(self, member: int) -> bool:
        return member in self.voters or member in self.learners

    def changed(self, changes: Iterable[Change]) -> Configuration:
        """The configuration after the changes, made in order, as one step. Raises `ChangeError`."""
        voters, learners, before = set(self.voters), set(self.learners), set(self.voters)
        for change in changes:
            member = change.member
            if member == 0 or change.kind is ChangeKind.UPDATE:
                continue
            if change.kind is ChangeKind.ALONE:
                voters, learners, before = {member}, set(), {member}
                continue
            voters.discard(member)
            learners.discard(member)
            if change.kind is ChangeKind.VOTER:
                voters.add(member)
            elif change.kind is ChangeKind.LEARNER:
                learners.add(member)
        if not voters:
            raise ChangeError("this would leave no voter")
        if len(voters ^ before) > 1:
            raise ChangeError(
                "this would change more than one voter in one step: change them one after the other"
            )
        return Configuration(tuple(sorted(voters)), tuple(sorted(learners)))
