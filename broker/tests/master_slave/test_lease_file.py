"""The lease file where things go wrong: it ends at any moment, is damaged, locked, or on a disk that hangs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lease_scene import record
from penstock.replication.master_lease import (
    Conflict,
    LeaseRecord,
    Missing,
    Stored,
    Unavailable,
    Unknown,
    Unreadable,
)
from penstock.runtime import lease_file
from penstock.runtime.lease_file import LeaseFile

TIMEOUT_MS = 20_000
SHORT_MS = 50
KILLS = 10


class Power(BaseException):
    """The process ends here."""


async def opened(path: Path) -> tuple[LeaseFile, str]:
    store = LeaseFile(path, "0", TIMEOUT_MS)
    outcome = await store.create(record(epoch=1))
    assert isinstance(outcome, Stored)
    return store, outcome.version


@pytest.mark.parametrize("step", range(6))
async def test_a_process_that_ends_at_any_step_leaves_one_record_or_the_other(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lease"
    store, version = await opened(path)
    steps = 0

    def ends(target: object, name: str) -> None:
        right = getattr(target, name)

        def call(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps > step:
                raise Power
            return right(*arguments)

        monkeypatch.setattr(target, name, call)

    with monkeypatch.context():
        ends(os, "fsync")  # of the new file, of the folder
        ends(fcntl, "flock")
        ends(Path, "rename")
        try:
            outcome = store._replace(record(epoch=2), version)
        except Power:
            outcome = None
    monkeypatch.undo()
    assert (outcome is not None) is (step >= 4), "four steps"
    found = await LeaseFile(path, "1", TIMEOUT_MS).read()
    assert isinstance(found, LeaseRecord)
    assert found.epoch == (2 if step >= 3 else 1)
    after = await LeaseFile(path, "0", TIMEOUT_MS).compare_and_swap(record(epoch=3), found.version)
    assert isinstance(after, Stored)


WRITER = """
import asyncio, sys
from pathlib import Path
import msgspec
from penstock.replication.master_lease import Stored
from penstock.runtime.lease_file import LeaseFile

async def main():
    store = LeaseFile(Path(sys.argv[1]), "0", 20_000)
    while True:
        found = await store.read()
        changed = msgspec.structs.replace(found, epoch=found.epoch + 1)
        if isinstance(await store.compare_and_swap(changed, found.version), Stored):
            print(changed.epoch, flush=True)

asyncio.run(main())
"""


def test_a_process_that_is_killed_loses_nothing_it_was_told_of(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    asyncio.run(opened(path))
    for number in range(KILLS):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(1 + number)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        told = max(int(line) for line in said if line.endswith("\n"))
        found = asyncio.run(LeaseFile(path, "1", TIMEOUT_MS).read())
        assert isinstance(found, LeaseRecord), found
        assert found.epoch in (told, told + 1)


async def test_every_damaged_byte_is_noticed_and_nobody_writes_over_it(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    store, version = await opened(path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x04
        path.write_bytes(damaged)
        assert isinstance(await store.read(), Unreadable), position
    assert await store.compare_and_swap(record(), version) == Conflict()
    assert await store.create(record()) == Conflict()
    for size in range(0, len(whole), 13):
        path.write_bytes(whole[:size])
        assert isinstance(await store.read(), Unreadable), size


async def test_a_format_of_a_newer_release_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    store, _ = await opened(path)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2', 1))
    assert await store.read() == Unreadable(f"{path} has format 2: upgrade Penstock")


async def test_a_writer_that_stopped_in_the_middle_holds_up_writers_alone(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    _, version = await opened(path)
    store = LeaseFile(path, "1", SHORT_MS)
    with path.with_name("lease.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert isinstance(await store.read(), LeaseRecord)
        assert await store.compare_and_swap(record(), version) == Unknown(
            f"{path} could not be written in 0.05 s"
        )
    await (
        store.close()
    )  # What is unknown may take effect yet, on a machine that is slow enough: not any more.
    store._thread.shutdown()
    slow = LeaseFile(path, "1", TIMEOUT_MS)
    found = await slow.read()
    assert isinstance(found, LeaseRecord)
    assert isinstance(await slow.compare_and_swap(record(), found.version), Stored)


async def test_a_writer_compares_again_when_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one was faster while this one was preparing its file."""
    path = tmp_path / "lease"
    first, version = await opened(path)
    second = LeaseFile(path, "1", TIMEOUT_MS)
    right = second._write_synced

    def slow(new_version: str, fields: dict[str, str]) -> None:
        right(new_version, fields)
        assert first._replace(record(epoch=2), version) is not None

    monkeypatch.setattr(second, "_write_synced", slow)
    assert await second.compare_and_swap(record(epoch=3), version) == Conflict()
    found = await first.read()
    assert isinstance(found, LeaseRecord)
    assert found.epoch == 2


async def test_a_disk_that_hangs_is_answered_for_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lease"
    _, version = await opened(path)
    store = LeaseFile(path, "1", SHORT_MS)
    works = threading.Event()
    right = os.fsync

    def hangs(descriptor: int) -> None:
        works.wait()
        right(descriptor)

    monkeypatch.setattr(lease_file.os, "fsync", hangs)
    assert isinstance(await store.compare_and_swap(record(epoch=2), version), Unknown)
    for _ in range(5):
        assert isinstance(await store.read(), Unavailable)
    waiting = store._thread._work_queue
    works.set()
    await asyncio.to_thread(store._thread.submit(lambda: None).result)
    assert waiting.empty()
    found = await LeaseFile(path, "2", TIMEOUT_MS).read()
    assert isinstance(found, LeaseRecord)
    assert found.epoch == 2, "a write that was given up may still take effect"
    await store.close()


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    store = LeaseFile(tmp_path / "gone" / "lease", "0", TIMEOUT_MS)
    assert await store.read() == Missing()
    outcome = await store.create(record())
    assert outcome == Unknown(f"{tmp_path / 'gone' / 'lease'} cannot be written: No such file or directory")


async def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "lease").mkdir()
    store = LeaseFile(tmp_path / "lease", "0", TIMEOUT_MS)
    assert await store.read() == Unavailable(f"{tmp_path / 'lease'} cannot be read: Is a directory")
    assert isinstance(await store.create(record()), Unknown)
