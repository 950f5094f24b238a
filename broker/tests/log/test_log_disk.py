"""The `Disk` port: the real one and the simulated one do the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.log.disk import IOV_MAX, Disk, RealDisk
from penstock.log.maintenance import make_spare
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path / "log") if request.param == "real" else SimulatedDisk(0)


def write(disk: Disk, name: str, data: bytes) -> None:
    file = disk.open(name, create=True)
    assert file.write_at(0, [data]) == len(data)
    file.close()


def read(disk: Disk, name: str) -> bytes:
    file = disk.open(name)
    data = file.read_at(0, file.size() + 10)
    file.close()
    return data


def test_a_missing_file_is_not_made_by_chance(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("nothing")
    assert disk.names() == []


def test_what_is_written_is_read(disk: Disk) -> None:
    file = disk.open("a", create=True)
    assert file.write_at(0, [b"one", bytearray(b"two"), memoryview(b"three")]) == 11
    assert file.write_at(3, [b"TWO"]) == 3
    assert file.read_at(0, 100) == b"oneTWOthree"
    assert file.read_at(3, 3) == b"TWO"
    assert file.read_at(11, 5) == b""
    assert file.size() == 11
    file.sync()
    file.close()
    file.close()


def test_a_hole_reads_as_zeros(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write_at(5, [b"x"])
    assert file.read_at(0, 10) == bytes(5) + b"x"
    file.close()


def test_more_buffers_than_one_call_takes(disk: Disk) -> None:
    buffers = [b"%05d" % number for number in range(IOV_MAX * 2 + 3)]
    file = disk.open("a", create=True)
    assert file.write_at(7, buffers) == 5 * len(buffers)
    assert file.read_at(7, 10**6) == b"".join(buffers)
    file.close()


def test_allocated_bytes_are_zeros_and_written_ones_stay(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write_at(0, [b"abc"])
    file.allocate(1000)
    assert file.size() == 1000
    assert file.read_at(0, 1000) == b"abc" + bytes(997)
    file.truncate(2)
    assert file.read_at(0, 10) == b"ab"
    file.allocate(4)
    assert file.read_at(0, 10) == b"ab\0\0"
    file.close()


def test_names_are_sorted_and_follow_renaming_and_removal(disk: Disk) -> None:
    for name in ("b", "a", "c"):
        write(disk, name, name.encode())
    disk.rename("c", "0")
    disk.rename("b", "a")
    assert disk.names() == ["0", "a"]
    assert read(disk, "a") == b"b"
    disk.remove("a")
    disk.remove("a")
    disk.sync_folder()
    assert disk.names() == ["0"]


def test_an_open_file_outlives_its_name(disk: Disk) -> None:
    write(disk, "a", b"data")
    file = disk.open("a")
    disk.remove("a")
    assert file.read_at(0, 4) == b"data"
    file.close()


def test_an_atomic_write_replaces_the_whole_file(disk: Disk) -> None:
    disk.write_atomic("a", b"a long first content")
    disk.write_atomic("a", b"short")
    assert read(disk, "a") == b"short"
    assert disk.names() == ["a"]


def test_space_is_told_in_bytes(disk: Disk) -> None:
    total, available = disk.space_bytes()
    assert 0 < available <= total


def test_a_spare_has_its_size_or_is_not_there(disk: Disk) -> None:
    name = make_spare(disk, 7, 4096)
    assert name == "00000000000000000007.spare"
    assert read(disk, name) == bytes(4096)


def test_a_real_file_is_closed_when_nobody_holds_it(tmp_path: Path) -> None:
    """So the blocks of a removed segment come back as soon as the last reader is done."""
    disk = RealDisk(tmp_path)
    write(disk, "a", b"data")
    file = disk.open("a")
    assert is_open(tmp_path / "a")
    del file
    assert not is_open(tmp_path / "a")


def is_open(path: Path) -> bool:
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return str(path) in {os.readlink(link) for link in links if os.path.lexists(link)}


# --- what the simulated disk does besides ------------------------------------------------------------------------------


def test_a_simulated_disk_has_an_end() -> None:
    disk = SimulatedDisk(0, capacity_bytes=10_000)
    assert make_spare(disk, 1, 8000) is not None
    assert make_spare(disk, 2, 8000) is None
    assert disk.names() == ["00000000000000000001.spare"]
    with pytest.raises(OSError, match="full"):
        write(disk, "a", bytes(2001))
    write(disk, "b", bytes(1999))
    disk.open("b").write_at(0, [bytes(1999)])


def test_unsynced_writes_may_be_lost_and_synced_ones_are_not() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimulatedDisk(seed)
        file = disk.open("a", create=True)
        file.allocate(8)
        file.write_at(0, [b"kept"])
        file.sync()
        disk.sync_folder()
        file.write_at(4, [b"lost"])
        disk.lose_power()
        outcomes.add(read(disk, "a"))
    assert outcomes == {b"kept" + bytes(4), b"keptlost"}


def test_names_that_were_not_synced_may_be_lost_in_order() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimulatedDisk(seed)
        for name in ("a", "b", "c"):
            disk.open(name, create=True)
        disk.lose_power()
        outcomes.add("".join(disk.names()))
    assert outcomes == {"", "a", "ab", "abc"}


def test_the_power_goes_during_the_operation_that_was_set() -> None:
    disk = SimulatedDisk(0)
    disk.fail_after(1)
    disk.open("a", create=True)
    with pytest.raises(PowerLossError):
        disk.sync_folder()
    with pytest.raises(PowerLossError):
        disk.open("b", create=True)
    disk.fail_after(None)
    disk.open("b", create=True)


def test_a_write_that_the_power_cuts_may_be_there_in_part() -> None:
    sizes = set()
    for seed in range(40):
        disk = SimulatedDisk(seed)
        file = disk.open("a", create=True)
        file.allocate(2048)
        disk.sync_folder()
        disk.fail_after(0)
        with pytest.raises(PowerLossError):
            file.write_at(0, [b"x" * 2048])
        sizes.add(read(disk, "a").count(b"x"))
    assert len(sizes) > 10
    assert max(sizes) < 2048


def test_a_truncation_that_was_not_synced_may_be_lost() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimulatedDisk(seed)
        file = disk.open("a", create=True)
        file.write_at(0, [b"longer"])
        file.sync()
        disk.sync_folder()
        file.truncate(4)
        file.allocate(8)
        disk.lose_power()
        outcomes.add(read(disk, "a"))
    assert outcomes == {b"longer", b"long" + bytes(4)}


def test_the_power_may_go_before_or_after_a_truncation() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimulatedDisk(seed)
        file = disk.open("a", create=True)
        file.write_at(0, [b"longer"])
        file.sync()
        disk.sync_folder()
        disk.fail_after(0)
        with pytest.raises(PowerLossError):
            file.truncate(4)
        outcomes.add(read(disk, "a"))
    assert outcomes == {b"longer", b"long"}
