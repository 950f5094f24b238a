"""A Lease in a small file, for shards whose brokers are processes of one machine.

A record is written beside the file, synced, and renamed over it, so that readers find one whole record or another and need
no lock. Writers are alone between comparing and renaming, which takes some microseconds: one that is stopped just there
holds the others up, and each says so after its timeout. A process that is killed at any moment leaves the old record or the
new one, its lock is gone with it, and what it had not renamed is overwritten by the next writer of that name.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from penstock.base.crc import crc32c
from penstock.replication.master_lease import (
    Conflict,
    LeaseRecord,
    Missing,
    Observation,
    Stored,
    Unavailable,
    Unknown,
    Unreadable,
    WriteOutcome,
    stamped,
)
from penstock.replication.master_lease_codec import LeaseContentError, decode, encode

T = TypeVar("T")

FILE_FORMAT = 1
# A record has a few hundred bytes.
FILE_BYTES_MAX = 64 * 1024
LOCK_RETRY_SECONDS = 0.005


class _Content(msgspec.Struct):
    """The file. `crc` is the CRC-32C of the version and the fields, encoded."""

    format: int
    version: str
    crc: int
    fields: dict[str, str]


class _LockedError(Exception):
    """Another writer is at it."""


class LeaseFile:
    """A `LeaseStore`. `name` belongs to one running process at a time; `wall_us` gives the wall clock's microseconds."""

    def __init__(
        self,
        path: Path,
        name: str,
        timeout_ms: int,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._path = path
        self._temporary = path.with_name(f"{path.name}.{name}.new")
        self._lock_path = path.with_name(path.name + ".lock")
        self._timeout_s = timeout_ms / 1000
        self._wall_us = wall_us
        # A disk that hangs takes one thread with it, and what waits behind is cancelled by its timeout.
        self._thread = ThreadPoolExecutor(1, "lease-file")

    async def read(self) -> Observation:
        """See `LeaseStore.read`."""
        try:
            return await self._within_timeout(self._load)
        except TimeoutError:
            return Unavailable(f"{self._path} could not be read in {self._timeout_s} s")
        except OSError as error:
            return Unavailable(f"{self._path} cannot be read: {error.strerror}")

    async def create(self, record: LeaseRecord) -> WriteOutcome:
        """See `LeaseStore.create`."""
        return await self._write(record, None)

    async def compare_and_swap(self, record: LeaseRecord, if_version: str) -> WriteOutcome:
        """See `LeaseStore.compare_and_swap`."""
        return await self._write(record, if_version)

    async def close(self) -> None:
        """See `LeaseStore.close`. Does not wait for a disk that hangs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write(self, record: LeaseRecord, if_version: str | None) -> WriteOutcome:
        try:
            version = await self._within_timeout(partial(self._replace, record, if_version))
        except TimeoutError:
            return Unknown(f"{self._path} could not be written in {self._timeout_s} s")
        except OSError as error:
            return Unknown(f"{self._path} cannot be written: {error.strerror}")
        return Conflict() if version is None else Stored(version)

    async def _within_timeout(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            while True:
                try:
                    return await loop.run_in_executor(self._thread, function)
                except _LockedError:
                    await asyncio.sleep(LOCK_RETRY_SECONDS)

    # --- in the thread ---------------------------------------------------------------------------

    def _load(self) -> LeaseRecord | Missing | Unreadable:
        try:
            with self._path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return Missing()
        try:
            found = msgspec.json.decode(data, type=_Content)
            if found.format != FILE_FORMAT:
                return Unreadable(f"{self._path} has format {found.format}: upgrade Penstock")
            if found.crc != _checksum(found.version, found.fields):
                return Unreadable(f"{self._path} is damaged: its checksum does not fit")
            return decode(found.fields, found.version)
        except msgspec.DecodeError as error:
            return Unreadable(f"{self._path} is damaged: {error}")
        except LeaseContentError as error:
            return Unreadable(f"{self._path}: {error}")

    def _replace(self, record: LeaseRecord, if_version: str | None) -> str | None:
        """The new version, or None for a conflict. Raises _LockedError, OSError."""
        before = self._load()
        if not _is_at(before, if_version):
            return None
        acquired_at_us = before.acquired_at_us if isinstance(before, LeaseRecord) else 0
        fields = encode(stamped(record, acquired_at_us, self._wall_us()))
        # The first half is for people. A file that was removed begins to count anew: the second half tells them apart.
        count = int(if_version.partition("-")[0]) if if_version else 0
        version = f"{count + 1}-{uuid.uuid4().hex}"
        self._write_synced(version, fields)
        with self._locked():
            if not _is_at(self._load(), if_version):
                return None
            self._temporary.rename(self._path)
        # Others may see the record before this. A power failure that takes it back ends them all.
        _sync_folder(self._path.parent)
        return version

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises _LockedError."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise _LockedError from error
        finally:
            os.close(descriptor)

    def _write_synced(self, version: str, fields: dict[str, str]) -> None:
        data = msgspec.json.encode(_Content(FILE_FORMAT, version, _checksum(version, fields), fields))
        with self._temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _is_at(found: LeaseRecord | Missing | Unreadable, version: str | None) -> bool:
    """What is damaged is at no version, and replaced by nobody."""
    if isinstance(found, LeaseRecord):
        return found.version == version
    return isinstance(found, Missing) and version is None


def _checksum(version: str, fields: dict[str, str]) -> int:
    return crc32c(msgspec.json.encode([version, sorted(fields.items())]))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
