"""The kinds of shards that the matrix is run on: how one is started, and how many brokers it needs.

A mode is a line of `MODES`; everything else here works with what it says. A shard whose brokers need company (something
that holds a lease) is a `ShardProcesses` of its own that starts and ends it, and whose `forget` also takes a deleted
broker's registration away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEGMENT_BYTES = 8 << 20


class Mode(NamedTuple):
    """`brokers`: how many there are unless somebody asks for others. `enough(n)`: how many of n have to be there for the shard
    to serve. `make` gives a shard that was not started."""

    name: str
    brokers: int
    enough: Callable[[int], int]
    make: Callable[[Path, int], ShardProcesses]


def majority(brokers: int) -> int:
    """More than half of them."""
    return brokers // 2 + 1


def _raft(folder: Path, brokers: int) -> ShardProcesses:
    config = {"min.insync.replicas": majority(brokers), "log.segment.bytes": SEGMENT_BYTES}
    return ShardProcesses(folder, replicas=brokers, config=config)


MODES = {mode.name: mode for mode in (Mode("Raft", 3, majority, _raft),)}
"""By the name on the command line and in tables."""
