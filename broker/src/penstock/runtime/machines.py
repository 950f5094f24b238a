"""The state machines of one shard, as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from penstock.catalog.partitions import Partitions
from penstock.catalog.topics import Catalog
from penstock.log.errors import LogDamagedError, ReleaseTooOldError
from penstock.log.snapshots import Snapshot
from penstock.model.commands import StateMachine
from penstock.replication.features import FEATURE_LEVEL, why_too_old
from penstock.replication.members import Members
from penstock.session.producers import ProducerSessions


class Machines(msgspec.Struct):
    """The shard's state machines. `others` are told of their own commands only."""

    catalog: Catalog
    partitions: Partitions
    producers: ProducerSessions
    members: Members
    others: Sequence[StateMachine] = ()

    def all(self) -> list[StateMachine]:
        """Every machine, in the order in which they are restored."""
        return [self.members, self.catalog, self.partitions, self.producers, *self.others]

    def written(self) -> list[StateMachine]:
        """Those whose state is written and compared: not one that no entry can have reached at the shard's feature level. So a
        broker may go back to a release that does not know it, and be sent the state by one that does."""
        level = max(self.members.level, 1)
        return [
            machine
            for machine in self.all()
            if any(command.feature_level <= level for command in machine.commands)
        ]

    def restore(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Replaces every machine's state. Raises ReleaseTooOldError, LogDamagedError."""
        machines = self.all()
        for machine in machines:
            snapshot = snapshots.get(machine.name)
            if snapshot is None:
                continue
            if snapshot.version > machine.version:
                raise ReleaseTooOldError(
                    f"the snapshot of {machine.name} has version {snapshot.version}, this release reads"
                    f" {machine.version}: upgrade Penstock"
                )
            try:
                machine.restore(snapshot.data)
            except (msgspec.DecodeError, ValueError) as error:
                raise LogDamagedError(
                    f"the snapshot of {machine.name} as of entry {snapshot.index} cannot be read ({error}):"
                    " restore the volume from a replica or a backup"
                ) from error
        unknown = snapshots.keys() - {machine.name for machine in machines}
        if unknown:
            raise ReleaseTooOldError(
                f"there is a snapshot of {', '.join(sorted(unknown))}, which this release does not know: upgrade Penstock"
            )
        self.check_level()

    def check_level(self) -> None:
        """Raises ReleaseTooOldError when the shard uses a feature level that this release does not know."""
        reason = why_too_old("this broker", FEATURE_LEVEL, self.members.level)
        if reason is not None:
            raise ReleaseTooOldError(reason)
