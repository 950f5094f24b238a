"""Snapshots between replicas: all of a leader's or all of the own ones count, whenever the power goes."""

from __future__ import annotations

import pytest

from penstock.base.crc import crc32c
from penstock.log.errors import LogDamagedError
from penstock.log.recovery import discard_log
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk

MACHINES = ("catalog", "groups", "producers")


def snapshots_of(mark: bytes, index: int, version: int = 1) -> list[Snapshot]:
    return [Snapshot(name, version, index, mark + name.encode() * 100) for name in MACHINES]


def store_of(disk: SimulatedDisk) -> SnapshotStore:
    store = SnapshotStore(disk)
    store.load()
    return store


def saved(disk: SimulatedDisk, index: int) -> SnapshotStore:
    store = store_of(disk)
    store.save({each.name: (each.version, each.data) for each in snapshots_of(b"own", index)}, index)
    return store


@pytest.mark.parametrize("index", [7, 10, 30], ids=["older", "of the same entry", "newer"])
def test_a_power_loss_while_snapshots_are_installed_mixes_none(index: int) -> None:
    seen = set()
    for operations in range(100):
        disk = SimulatedDisk(operations)
        store = saved(disk, 10)
        disk.fail_after(operations)
        try:
            store.install(snapshots_of(b"leader", index, version=2), index)
            done = True
        except PowerLossError:
            done = False
        disk.fail_after(None)
        disk.lose_power()
        found = list(SnapshotStore(disk).load().values())
        installed = found == snapshots_of(b"leader", index, version=2)
        assert installed or found == snapshots_of(b"own", 10)
        assert installed or not done
        seen.add(installed)
        if done:
            break
    assert seen == {False, True}


def test_a_machine_that_the_leader_does_not_know_is_gone() -> None:
    disk = SimulatedDisk(0)
    store = saved(disk, 10)
    store.install(snapshots_of(b"leader", 20)[:2], 20)
    assert store.covered_index == 20
    assert store_of(disk).load().keys() == {"catalog", "groups"}
    assert len([name for name in disk.names() if name.endswith(".snapshot")]) == 2


def test_what_was_installed_is_gone_on_with() -> None:
    disk = SimulatedDisk(0)
    store = saved(disk, 10)
    store.install(snapshots_of(b"leader", 10), 10)
    store.save({"groups": (3, b"changed")}, 12)
    found = store_of(disk).load()
    assert found["groups"] == Snapshot("groups", 3, 12, b"changed")
    assert found["catalog"] == Snapshot("catalog", 1, 12, b"leader" + b"catalog" * 100)


@pytest.mark.parametrize("name", ["", "../checkpoint", "a b", "Catalog", "a.snapshot"])
def test_a_name_that_no_machine_has_makes_no_file(name: str) -> None:
    disk = SimulatedDisk(0)
    store = saved(disk, 10)
    before = disk.names()
    with pytest.raises(ValueError, match="not the name of a state machine"):
        store.install([Snapshot(name, 1, 20, b"")], 20)
    assert disk.names() == before


def test_snapshots_are_read_whole_and_checked() -> None:
    disk = SimulatedDisk(0)
    store = saved(disk, 10)
    assert store.read_all() == snapshots_of(b"own", 10)
    disk.corrupt("groups-00000000000000000010.snapshot", 50)
    with pytest.raises(
        LogDamagedError, match=r"groups-00000000000000000010\.snapshot does not match its checksum"
    ):
        store.read_all()


def test_snapshots_are_read_in_pieces_while_newer_ones_replace_them() -> None:
    disk = SimulatedDisk(0)
    store = saved(disk, 10)
    files = store.open_files()
    store.install(snapshots_of(b"other", 20), 20)
    for file, expected in zip(files, snapshots_of(b"own", 10), strict=True):
        pieces = []
        while piece := file.read(sum(map(len, pieces)), 64):
            assert len(piece) <= 64
            pieces.append(piece)
        data = b"".join(pieces)
        assert Snapshot(file.name, file.version, file.index, data) == expected
        assert (file.size_bytes, file.crc) == (len(data), crc32c(data))
        file.close()


def test_a_store_without_a_checkpoint_has_nothing_to_send() -> None:
    store = store_of(SimulatedDisk(0))
    assert store.read_all() == []
    assert store.open_files() == []
    assert (store.covered_index, store.reset_to, store.seeding) == (0, None, False)


def test_a_snapshot_file_that_is_none_is_refused() -> None:
    disk = SimulatedDisk(0)
    store = saved(disk, 10)
    name = "groups-00000000000000000010.snapshot"
    disk.open(name).write_at(0, [b"?"])
    with pytest.raises(LogDamagedError, match=f"{name} does not match"):
        store.open_files()
    disk.open(name).truncate(5)
    with pytest.raises(LogDamagedError, match=f"{name} is shorter than its header"):
        store.open_files()


def test_a_checkpoint_ends_the_seeding() -> None:
    disk = SimulatedDisk(0)
    store = store_of(disk)
    store.install(snapshots_of(b"leader", 20), 20, reset_to=(10, 3))
    assert store_of(disk).reset_to == (10, 3)
    store.reset_done()
    assert (store_of(disk).reset_to, store_of(disk).seeding) == (None, True)
    # A newer snapshot of the leader comes while entries before it are still on their way.
    store.install(snapshots_of(b"leader", 30), 30)
    assert store_of(disk).seeding
    store.save({}, 31)
    assert not store_of(disk).seeding


def test_a_log_that_is_given_up_leaves_its_spares() -> None:
    disk = SimulatedDisk(0)
    saved(disk, 10)
    for name in (
        "00000000000000000001.log",
        "00000000000000000001.index",
        "00000000000000000001.spare",
        "lock",
    ):
        disk.open(name, create=True)
    discard_log(disk)
    assert disk.names() == ["00000000000000000001.spare", "lock"]
