"""The kinds of shards that the matrix is run on: how one is started, and how many brokers it needs.

A mode is a line of `MODES`; everything else here works with what it says. A shard whose brokers need company is a
`ShardProcesses` of its own that starts and ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.availability.faults import Absence
from penstock.testing.master_slave_processes import MasterSlaveProcesses
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.testing.availability.matrix import Cell, Ending
    from penstock.testing.shard_processes import Place

SEGMENT_BYTES = 8 << 20
LEASE_MS = 6_000
RENEWAL_MS = 2_000
LEASE_PAUSE_S = 8.0
"""Longer than the Lease, so that another broker leads meanwhile."""
# Who takes over may lack all that was written since the last renewal.
LAG_MAX = 1_000_000


class Mode(NamedTuple):
    """`brokers`: how many there are unless somebody asks for others. `enough(n)`: how many of n have to be there for the shard
    to serve; `keepers(n)`: how many must not have lost their volumes for it to go on by itself. `loses`: it may lose what was
    acknowledged, and says so. `make` gives a shard that was not started, `absence` is how long its brokers are away."""

    name: str
    brokers: int
    enough: Callable[[int], int]
    keepers: Callable[[int], int]
    make: Callable[[Path, int], ShardProcesses]
    loses: bool = False
    absence: Absence = Absence()

    def ending(self, cell: Cell) -> Ending:
        """What a shard of this mode owes after that."""
        return cell.ending(self.keepers(cell.brokers), loses=self.loses)


def majority(brokers: int) -> int:
    """More than half of them."""
    return brokers // 2 + 1


def copies(brokers: int) -> int:
    """What `minInSync` is where nobody says so."""
    return 1 if brokers <= 2 else 2


def one(_: int) -> int:
    """A broker that was in sync holds all there is."""
    return 1


def _raft(folder: Path, brokers: int) -> ShardProcesses:
    config = {"min.insync.replicas": majority(brokers), "log.segment.bytes": SEGMENT_BYTES}
    return ShardProcesses(folder, replicas=brokers, config=config)


def master_slave(
    folder: Path, brokers: int, *, place: Place | None = None, **changes: object
) -> MasterSlaveProcesses:
    """A shard in mode MasterSlave; `changes` are settings, with underscores for dots."""
    config: dict[str, object] = {
        "min.insync.replicas": copies(brokers),
        "log.segment.bytes": SEGMENT_BYTES,
        "lease.duration.ms": LEASE_MS,
        "lease.renew.interval.ms": RENEWAL_MS,
    }
    config |= {name.replace("_", "."): value for name, value in changes.items()}
    return MasterSlaveProcesses(folder, replicas=brokers, config=config, place=place)


def _sync(folder: Path, brokers: int) -> ShardProcesses:
    return master_slave(folder, brokers, replication="sync")


def _async(folder: Path, brokers: int) -> ShardProcesses:
    return master_slave(
        folder, brokers, replication="async", failover_allow_data_loss=True, failover_max_lag=LAG_MAX
    )


_PAUSED = Absence(paused_s=LEASE_PAUSE_S)
MODES = {
    mode.name: mode
    for mode in (
        Mode("Raft", 3, majority, majority, _raft),
        Mode("MasterSlave-sync", 3, copies, one, _sync, absence=_PAUSED),
        Mode("MasterSlave-async", 3, copies, one, _async, loses=True, absence=_PAUSED),
    )
}
"""By the name on the command line and in tables."""
