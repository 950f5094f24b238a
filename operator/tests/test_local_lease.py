"""Releasing the Lease of a process that ended: only its own, only a whole one, and so that brokers can read it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from penstock.process.electing import process_name as name_in_lease
from penstock.replication.master_lease import ANYBODY, HolderIdentity, LeaseRecord, Release, Stored
from penstock.runtime.lease_file import LeaseFile
from penstock_operator.local.lease_file import process_name, release

if TYPE_CHECKING:
    from pathlib import Path

HELD = "4711:12345"
RECORD = LeaseRecord(
    shard_uid="3b241101-e2bb-4255-8caf-4136c566a962",
    holder="6fa459ea-ee8a-3ca4-894e-db77e160355e",
    identity=HolderIdentity(member=7, ordinal=1, container_id=HELD),
    epoch=5,
    in_sync=frozenset({7, 9}),
    duration_ms=6000,
    log_end=41,
)


def written(path: Path) -> str:
    """The version of a Lease that a broker made."""

    async def create() -> str:
        outcome = await LeaseFile(path, "7", 1000).create(RECORD)
        assert isinstance(outcome, Stored)
        return outcome.version

    return asyncio.run(create())


def read(path: Path) -> LeaseRecord:
    async def read_once() -> LeaseRecord:
        found = await LeaseFile(path, "9", 1000).read()
        assert isinstance(found, LeaseRecord), found
        return found

    return asyncio.run(read_once())


def test_what_is_released_is_what_a_broker_reads(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    version = written(path)
    before = read(path)
    assert release(path, HELD, "its process was seen to end")
    found = read(path)
    assert found.released == Release("its process was seen to end", ANYBODY)
    assert found.version.startswith("2-")
    assert found.version != version
    assert msgspec.structs.replace(found, released=None, version=version) == before
    assert not release(path, HELD, "it was released already")


def test_a_write_that_was_meant_for_the_lease_before_its_release_comes_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    version = written(path)
    assert release(path, HELD, "its process was seen to end")
    outcome = asyncio.run(LeaseFile(path, "7", 1000).compare_and_swap(RECORD, version))
    assert not isinstance(outcome, Stored)
    assert read(path).released is not None


def test_another_process_s_lease_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    assert not release(path, HELD, "there is none")
    written(path)
    content = path.read_bytes()
    assert not release(path, "4711:12346", "another one of the same number")
    assert not release(path, "", "nobody knows who it was")
    assert path.read_bytes() == content


def test_a_damaged_lease_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    written(path)
    for content in (
        path.read_bytes().replace(b'"41"', b'"42"'),
        b"[]",
        b"{",
        b"",
        b'{"fields": 1, "format": 1}',
    ):
        path.write_bytes(content)
        assert not release(path, HELD, "its process was seen to end")
        assert path.read_bytes() == content


def test_nobody_waits_for_a_broker_that_is_stopped_while_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    written(path)
    lock = os.open(path.with_name("lease.json.lock"), os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not release(path, HELD, "its process was seen to end")
    finally:
        os.close(lock)
    assert release(path, HELD, "its process was seen to end")


def test_who_starts_a_process_and_the_process_know_it_by_the_same_name() -> None:
    program = "import os; from penstock.process.electing import process_name as n; print(n(os.getpid()), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        known_as = process_name(child.pid)
        assert child.stdout is not None
        assert child.stdout.readline().strip() == known_as == name_in_lease(child.pid)
        child.communicate("\n")
    assert process_name(child.pid) == ""
