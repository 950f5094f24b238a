"""Power loss, simulated: what was acknowledged under flush: sync is there afterwards, whatever the disk forgot."""

from __future__ import annotations

import os
import random

import pytest

from log_harness import Log
from penstock.log.errors import LogDamagedError
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "60"))
LIVES = 4
PARTITIONS = 3


class Lives:
    """One log through several lives; each ends with a power loss at a random operation."""

    def __init__(self, seed: int, *, sync_works: bool = True) -> None:
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(seed, sync_works=sync_works)
        # By index: the payload of every entry that was acknowledged, and of every one that was ever appended.
        self.acknowledged: dict[int, tuple[int, bytes]] = {}
        self.ends = [0] * PARTITIONS

    def live(self, epoch: int) -> None:
        try:
            self.disk.fail_after(self.chance.randint(0, 60))
            self._work(Log(self.disk, epoch=epoch))
            self.disk.lose_power()
        except PowerLossError:
            pass

    def _work(self, log: Log) -> None:
        self._check(log)
        for _ in range(self.chance.randint(1, 12)):
            appended: dict[int, tuple[int, bytes]] = {}
            ends = list(self.ends)
            for _ in range(self.chance.randint(1, 4)):
                partition = self.chance.randrange(PARTITIONS)
                values = [
                    self.chance.randbytes(self.chance.randint(1, 300))
                    for _ in range(self.chance.randint(1, 3))
                ]
                index = log.append(partition, ends[partition], values)
                ends[partition] += len(values)
                payload = b"".join(log.log.cache.get((log.log.active.base_index, self._position(log))) or ())
                appended[index] = (partition, payload)
            log.commit()
            self.acknowledged.update(appended)
            self.ends = ends

    @staticmethod
    def _position(log: Log) -> int:
        return next(reversed(log.log.cache._payloads))[1]

    def _check(self, log: Log) -> None:
        found = {index: (partition, payload) for index, partition, payload in log.batches()}
        for index, entry in self.acknowledged.items():
            assert found.get(index) == entry, f"acknowledged entry {index} was lost or changed"
        indexes = [header.log_index for header, _ in log.replayed]
        assert indexes == list(range(1, len(indexes) + 1)), "the log has a gap"
        # What was not acknowledged may have survived: it counts from now on.
        self.acknowledged = found
        self.ends = self._ends(log)

    def _ends(self, log: Log) -> list[int]:
        ends = [0] * PARTITIONS
        for segment in log.log.segments:
            for partition in segment.partitions():
                run = segment.run(partition)
                assert run is not None
                assert run.first_offset == ends[partition], "offsets are not dense"
                ends[partition] = run.end_offset
        return ends

    def finish(self) -> None:
        self.disk.fail_after(None)
        self._check(Log(self.disk, epoch=LIVES + 1))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_simulated_power_loss_keeps_what_was_acknowledged(seed: int) -> None:
    lives = Lives(seed)
    for epoch in range(1, LIVES + 1):
        lives.live(epoch)
    lives.finish()


def test_simulated_power_loss_without_fdatasync_is_noticed() -> None:
    """The proof that the test above can fail: with the sync taken out, acknowledged entries are missed."""
    noticed = 0
    for seed in range(20):
        lives = Lives(seed, sync_works=False)
        try:
            for epoch in range(1, LIVES + 1):
                lives.live(epoch)
            lives.finish()
        except (AssertionError, LogDamagedError):
            noticed += 1
    assert noticed > 10
