"""One line in the log whenever who belongs to the shard, or who is in sync with its leader, is another than before."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from penstock.replication.members import Members
from penstock.telemetry.logs import fields

logger = logging.getLogger(__name__)


class MembersLog:
    """Remembers what it said last. Names are those that members announced, numbers of those that did not yet."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._told_members = ""
        self._told_in_sync: list[int] = []

    def changed(self) -> None:
        """A change of the members is committed: every broker says it."""
        configuration = self._members.configuration
        told = self._names(configuration.voters)
        if configuration.learners:
            told += f"; learning: {self._names(configuration.learners)}"
        if told != self._told_members:
            self._told_members = told
            counts = fields(voters=len(configuration.voters), learners=len(configuration.learners))
            logger.info("the shard's members: %s", told, extra=counts)

    def in_sync(self, members: list[int]) -> None:
        """Whose copies count, as the leader sees it."""
        if members != self._told_in_sync:
            self._told_in_sync = members
            logger.info("in sync: %s", self._names(members), extra=fields(in_sync=len(members)))

    def _names(self, members: Sequence[int]) -> str:
        known = self._members.announcements.committed
        names = [known[member].name if member in known else str(member) for member in members]
        return ", ".join(sorted(names))
