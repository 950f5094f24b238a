"""Power loss at every step of a truncation and of a reset, and in lives that mix everything a replica does."""

from __future__ import annotations

import os
import random

import pytest

from log_harness import SHARD, Log
from penstock.codec.entry import KIND_COMMAND, encode_header
from penstock.log.errors import LogDamagedError
from penstock.log.maintenance import write_index
from penstock.log.reader import load_index
from penstock.log.reset import finish_reset
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.log.truncation import SealedSegmentError
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "60"))
SEGMENT_BYTES = 2048
# More operations than any of the jobs below makes.
OPERATIONS_MAX = 80
LIVES = 5

Entry = tuple[int, int, bytes]


def run_of(first: int, count: int, epoch: int, mark: bytes, size: int = 450) -> list[Entry]:
    return [
        (first + number, epoch, b"%s %d " % (mark, first + number) + bytes(size)) for number in range(count)
    ]


def encoded(entries: list[Entry]) -> bytes:
    return b"".join(
        encode_header(index, epoch, KIND_COMMAND, 0, (payload,), 0) + payload
        for index, epoch, payload in entries
    )


class Replica:
    """A log with its snapshots, opened as a broker does it."""

    def __init__(self, disk: SimulatedDisk, *, sync: bool = True) -> None:
        self.disk = disk
        self.store = SnapshotStore(disk)
        self.snapshots = self.store.load()
        finish_reset(disk, SHARD, self.store, SEGMENT_BYTES)
        self.harness = Log(
            disk,
            sync=sync,
            covered=self.store.covered_index,
            epoch=9,
            segment_bytes=SEGMENT_BYTES,
            seeding=self.store.seeding,
        )
        self.log = self.harness.log

    @property
    def found(self) -> list[Entry]:
        """What the start read."""
        return [(h.log_index, h.epoch, payload) for h, payload in self.harness.replayed]

    def receive(self, entries: list[Entry]) -> None:
        rest = entries
        while rest:
            self.harness.fill_spares()
            rest = rest[len(self.log.append_entries(encoded(rest))) :]

    def commit(self) -> None:
        while self.log.has_work:
            job = self.log.take_job()
            assert job is not None
            self.log.complete(job.run())

    def seal(self) -> None:
        for segment in self.log.unsealed_segments():
            segment.seal(write_index(segment))

    def truncate(self, from_index: int) -> None:
        try:
            self.log.truncate(from_index)
        except SealedSegmentError as error:
            self.log.truncate(from_index, load_index(error.segment))


# --- truncation ---------------------------------------------------------------------------------------------------------

OLD = run_of(1, 18, 2, b"old")


def truncated(disk: SimulatedDisk, from_index: int, new: list[Entry], *, under_way: bool) -> Replica:
    """A replica whose next job cuts from there and writes other entries; four to a segment."""
    replica = Replica(disk)
    replica.receive(OLD if not under_way else OLD[:10])
    replica.commit()
    replica.seal()
    if under_way:
        replica.receive(OLD[10:])
        job = replica.log.take_job()
        replica.truncate(from_index)
        replica.receive(new)
        assert job is not None
        replica.log.complete(job.run())
    else:
        replica.truncate(from_index)
        replica.receive(new)
    return replica


@pytest.mark.parametrize("from_index", [1, 3, 5, 8, 9, 13, 17, 18])
@pytest.mark.parametrize("count", [0, 3, 7])
@pytest.mark.parametrize("under_way", [False, True], ids=["idle", "job under way"])
def test_a_power_loss_at_any_step_of_a_truncation_leaves_a_prefix(
    from_index: int, count: int, under_way: bool
) -> None:
    new = run_of(from_index, count, 5, b"new")
    kept = OLD[: from_index - 1]
    outcomes = set()
    for operations in range(OPERATIONS_MAX):
        disk = SimulatedDisk(operations)
        replica = truncated(disk, from_index, new, under_way=under_way)
        disk.fail_after(operations)
        try:
            replica.commit()
            done = True
        except PowerLossError:
            done = False
        disk.fail_after(None)
        disk.lose_power()
        again = Replica(disk)
        found = again.found
        common = len(kept)
        assert found[:common] == kept
        rest = found[common:]
        if done:
            assert rest == new
        else:
            assert rest in (OLD[common : common + len(rest)], new[: len(rest)])
        outcomes.add(tuple(index for index, _, _ in rest))
        # The log goes on from there.
        more = run_of(again.log.next_index, 5, 8, b"more")
        again.receive(more)
        again.commit()
        again.seal()
        assert Replica(disk).found == found + more
        if done:
            break
    else:
        raise AssertionError("the job was never done")
    assert operations > 2
    assert len(outcomes) >= 2, "no power loss made a difference"


# --- reset --------------------------------------------------------------------------------------------------------------


def snapshots_of(name: bytes, index: int) -> list[Snapshot]:
    return [Snapshot(machine, 1, index, name + machine.encode()) for machine in ("catalog", "groups")]


def test_a_power_loss_at_any_step_of_a_reset_leaves_the_old_log_or_the_new_one() -> None:
    base = (40, 6)
    seen = set()
    for operations in range(OPERATIONS_MAX):
        disk = SimulatedDisk(operations)
        replica = Replica(disk)
        replica.receive(OLD)
        replica.commit()
        replica.seal()
        replica.store.save({s.name: (1, s.data) for s in snapshots_of(b"old", 5)}, 5)
        job = replica.log.begin_reset(*base, replica.store, snapshots_of(b"new", 40), 40)
        disk.fail_after(operations)
        try:
            replica.log.complete_reset(job.run())
            done = True
        except PowerLossError:
            done = False
        disk.fail_after(None)
        disk.lose_power()
        # The start that finishes what was begun may be cut short as well.
        if not done:
            disk.fail_after(operations % 7)
            try:
                Replica(disk)
            except PowerLossError:
                pass
            disk.fail_after(None)
            disk.lose_power()
        again = Replica(disk)
        is_new = again.log.next_index == 41
        seen.add(is_new)
        name, index = (b"new", 40) if is_new else (b"old", 5)
        assert is_new or not done
        assert again.snapshots == {s.name: s for s in snapshots_of(name, index)}
        assert again.found == ([] if is_new else OLD[5:])
        if is_new:
            assert (again.log.epoch_of(40), again.log.first_index) == (6, 41)
        more = run_of(again.log.next_index, 5, 8, b"more")
        again.receive(more)
        again.commit()
        assert Replica(disk).found == again.found + more
        if done:
            break
    assert seen == {False, True}


def test_a_member_that_is_being_seeded_may_hold_less_than_its_snapshots_cover() -> None:
    """The leader's log begins with entry 11, its snapshots cover up to 20: the entries between come before it counts."""
    disk = SimulatedDisk(0)
    replica = Replica(disk)
    job = replica.log.begin_reset(10, 3, replica.store, snapshots_of(b"new", 20), 20)
    replica.log.complete_reset(job.run())
    assert replica.store.seeding
    replica.receive(run_of(11, 6, 3, b"seeded"))
    replica.commit()
    disk.lose_power()
    replica = Replica(disk)
    assert (replica.log.first_index, replica.log.next_index, replica.found) == (11, 17, [])
    assert (replica.store.covered_index, replica.store.seeding) == (20, True)
    replica.receive(run_of(17, 4, 3, b"seeded"))
    replica.commit()
    replica.store.seeded()
    more = run_of(21, 2, 3, b"more")
    replica.receive(more)
    replica.commit()
    disk.lose_power()
    replica = Replica(disk)
    assert not replica.store.seeding
    assert replica.found == more
    assert b"seeded 12 " in replica.harness.shipped(12, 12)
    # From here on, an end before what the snapshots cover is damage.
    replica.truncate(15)
    replica.commit()
    with pytest.raises(LogDamagedError, match="a snapshot covers entries up to 20"):
        Replica(disk)


def test_a_reset_without_a_spare_makes_room_first() -> None:
    disk = SimulatedDisk(0)
    replica = Replica(disk)
    replica.receive(OLD)
    replica.commit()
    while replica.log.spares:
        disk.remove(replica.log.spares.pop())
    disk.capacity_bytes = disk.capacity_bytes - disk.available_bytes() + 500
    job = replica.log.begin_reset(40, 6, replica.store, snapshots_of(b"new", 40), 40)
    replica.log.complete_reset(job.run())
    assert Replica(disk).log.next_index == 41


def test_a_reset_on_a_full_disk_takes_the_room_of_spares() -> None:
    disk = SimulatedDisk(0)
    replica = Replica(disk)
    replica.harness.fill_spares()
    spares = len(replica.log.spares)
    disk.capacity_bytes -= disk.available_bytes()
    job = replica.log.begin_reset(40, 6, replica.store, snapshots_of(b"new", 40), 40)
    replica.log.complete_reset(job.run())
    # One became the log's segment.
    assert 0 < len(replica.log.spares) < spares - 1
    assert Replica(disk).log.next_index == 41


@pytest.mark.parametrize("left_bytes", [0, 1000], ids=["for the snapshots", "for a segment"])
def test_a_reset_that_found_no_room_is_run_again(left_bytes: int) -> None:
    disk = SimulatedDisk(0)
    replica = Replica(disk)
    while replica.log.spares:
        disk.remove(replica.log.spares.pop())
    disk.capacity_bytes = disk.capacity_bytes - disk.available_bytes() + left_bytes
    job = replica.log.begin_reset(40, 6, replica.store, snapshots_of(b"new", 40), 40)
    for _ in range(2):
        with pytest.raises(OSError, match=r"is full|has no room"):
            job.run()
    disk.capacity_bytes += 100_000
    replica.log.complete_reset(job.run())
    again = Replica(disk)
    assert again.log.next_index == 41
    assert again.snapshots == {s.name: s for s in snapshots_of(b"new", 40)}


def test_nothing_else_may_be_under_way_in_a_reset() -> None:
    replica = Replica(SimulatedDisk(0))
    replica.receive(OLD[:1])
    job = replica.log.take_job()
    assert job is not None
    with pytest.raises(AssertionError, match="has to be completed before a reset"):
        replica.log.begin_reset(40, 6, replica.store, [], 40)
    replica.log.complete(job.run())
    reset = replica.log.begin_reset(40, 6, replica.store, [], 40)
    with pytest.raises(AssertionError, match="a reset is under way"):
        replica.log.begin_reset(40, 6, replica.store, [], 40)
    replica.harness.fill_spares()
    with pytest.raises(AssertionError, match="nothing may be appended while the log is being reset"):
        replica.log.append_command(b"")
    assert replica.log.take_job() is None
    replica.log.complete_reset(reset.run())
    assert replica.log.append_command(b"") == 41


# --- lives --------------------------------------------------------------------------------------------------------------


class ReplicaLives:
    """`durable` is the log up to what was reported durable and not truncated since; `ever` has all that was appended."""

    def __init__(self, seed: int, *, sync: bool = True, sync_works: bool = True) -> None:
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(seed, sync_works=sync_works)
        self.sync = sync
        self.durable: list[Entry] = []
        self.ever: set[Entry] = set()
        self.epoch = 1

    def live(self) -> None:
        self.disk.fail_after(self.chance.randint(0, 120))
        try:
            self._work(self._opened())
        except PowerLossError:
            pass
        self.disk.fail_after(None)
        self.disk.lose_power()

    def _opened(self) -> Replica:
        replica = Replica(self.disk, sync=self.sync)
        log = replica.log
        at, found = log.first_index, []
        data = replica.harness.shipped(at, log.next_index - 1) if log.next_index > at else b""
        position = 0
        while position < len(data):
            size = int.from_bytes(data[position + 8 : position + 12], "little")
            payload = data[position + 32 : position + 32 + size]
            found.append((at, log.epoch_of(at), payload))
            position, at = position + 32 + size, at + 1
        if self.durable:
            assert log.first_index == self.durable[0][0]
        assert found[: len(self.durable)] == self.durable, "what was durable is lost or changed"
        assert set(found) <= self.ever
        self.durable = found
        return replica

    def _work(self, replica: Replica) -> None:
        log = replica.log
        pending = list(self.durable)
        for _ in range(self.chance.randint(1, 25)):
            self.epoch += self.chance.random() < 0.3
            action = self.chance.choice(["receive", "receive", "write", "write", "truncate", "seal", "flush"])
            if action == "receive":
                new = run_of(
                    log.next_index, self.chance.randint(1, 4), self.epoch, b"%d" % self.epoch,
                    self.chance.randint(0, 700),
                )  # fmt: skip
                self.ever.update(new)
                pending += new
                replica.receive(new)
            elif action == "write":
                job = log.take_job()
                if job is not None:
                    written = list(pending)
                    if self.chance.random() < 0.3:
                        self._truncate(replica, pending)
                    log.complete(job.run())
                    self.durable = written[: log.durable_index - log.first_index + 1]
            elif action == "truncate":
                self._truncate(replica, pending)
            elif action == "flush":
                self._flush(replica, pending)
            else:
                replica.seal()

    def _flush(self, replica: Replica, pending: list[Entry]) -> None:
        """Under flush: async. The sync may come to an end when the log has been cut meanwhile."""
        log = replica.log
        index, segment = log.written_index, log.unsynced_segment()
        if segment is None:
            return
        if self.chance.random() < 0.3:
            self._truncate(replica, pending)
            job = log.take_job()
            if job is not None:
                log.complete(job.run())
        assert segment.file is not None
        segment.file.sync()
        log.mark_durable(index)
        self.durable = pending[: log.durable_index - log.first_index + 1]

    def _truncate(self, replica: Replica, pending: list[Entry]) -> None:
        log = replica.log
        from_index = max(log.next_index - self.chance.randint(0, 9), log.first_index)
        replica.truncate(from_index)
        del pending[from_index - log.first_index :]
        del self.durable[from_index - log.first_index :]

    def finish(self) -> None:
        self._opened()


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_a_replica_reported_durable_survives(seed: int, sync: bool) -> None:
    lives = ReplicaLives(seed, sync=sync)
    for _ in range(LIVES):
        lives.live()
    lives.finish()


def test_without_fdatasync_that_is_noticed() -> None:
    """The proof that the test above can fail."""
    noticed = 0
    for seed in range(20):
        lives = ReplicaLives(seed, sync_works=False)
        try:
            for _ in range(LIVES):
                lives.live()
            lives.finish()
        except (AssertionError, LogDamagedError):
            noticed += 1
    assert noticed > 10
