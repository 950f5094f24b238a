"""Snapshots of state machines, and the checkpoint that says which of them count.

Each machine's snapshot is a file of its own, named by the index it covers; the checkpoint names one per machine. A
machine that did not change keeps its old file and only its covered index moves, so a checkpoint costs what changed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import msgspec

from penstock.base.crc import crc32c
from penstock.log.disk import Disk
from penstock.log.errors import LogDamagedError

CHECKPOINT_NAME = "checkpoint"
SNAPSHOT_SUFFIX = ".snapshot"
_HEADER = struct.Struct("<8sII")  # magic, length, crc
_MAGIC = b"PNSTKSNP"


class Snapshot(msgspec.Struct, frozen=True):
    """One machine's state as of `index`, in the machine's format `version`."""

    name: str
    version: int
    index: int
    data: bytes


class SnapshotFile:
    """A snapshot that is sent in pieces."""

    name: str
    version: int
    index: int
    size_bytes: int
    # CRC-32C of the whole, for the receiver to check.
    crc: int

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes of the state from `position`, in a thread."""
        raise AssertionError


class _CheckpointItem(msgspec.Struct, array_like=True):
    file: str
    version: int
    index: int


class _Checkpoint(msgspec.Struct):
    format: int
    machines: dict[str, _CheckpointItem]


class SnapshotStore:
    """Loads and saves snapshots in the log's folder. Saving blocks and belongs to a background thread."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._current: dict[str, _CheckpointItem] = {}

    def load(self) -> dict[str, Snapshot]:
        """The snapshots of the last checkpoint. Raises LogDamagedError."""
        names = set(self._disk.names())
        if CHECKPOINT_NAME not in names:
            return {}
        try:
            checkpoint = msgspec.msgpack.decode(self._read(CHECKPOINT_NAME), type=_Checkpoint)
        except msgspec.DecodeError as error:
            raise LogDamagedError(f"the file {CHECKPOINT_NAME} cannot be read: {error}") from error
        self._current = checkpoint.machines
        return {
            name: Snapshot(name, item.version, item.index, self._read(item.file))
            for name, item in checkpoint.machines.items()
        }

    @property
    def covered_index(self) -> int:
        """The last entry that every machine's snapshot covers; 0 without a checkpoint."""
        return min((item.index for item in self._current.values()), default=0)

    def save(self, changed: Mapping[str, tuple[int, bytes]], index: int) -> None:
        """Makes `index` the covered index of every machine; `changed` has (version, state) of those to write."""
        current = dict(self._current)
        for name, item in current.items():
            current[name] = _CheckpointItem(item.file, item.version, index)
        for name, (version, data) in changed.items():
            file = f"{name}-{index:020d}{SNAPSHOT_SUFFIX}"
            self._write(file, data)
            current[name] = _CheckpointItem(file, version, index)
        self._write(CHECKPOINT_NAME, msgspec.msgpack.encode(_Checkpoint(1, current)))
        self._current = current
        kept = {item.file for item in current.values()}
        for name in self._disk.names():
            if name.endswith(SNAPSHOT_SUFFIX) and name not in kept:
                self._disk.remove(name)

    # --- between replicas ------------------------------------------------------------------------

    def install(self, snapshots: Sequence[Snapshot], index: int) -> None:
        """Replaces all machines' snapshots by ones that a leader sent, as of `index`: all or nothing. For a log that holds
        entry `index`; otherwise `CommitLog.begin_reset` installs them."""
        raise AssertionError

    def read_all(self) -> list[Snapshot]:
        """The snapshots of the last checkpoint, checked, in a thread. Raises LogDamagedError, OSError."""
        raise AssertionError

    def open_files(self) -> list[SnapshotFile]:
        """The same for sending in pieces: the files stay readable while newer checkpoints replace them."""
        raise AssertionError

    @property
    def reset_to(self) -> tuple[int, int] | None:
        """(index, epoch) of the base that a reset was cut short at: give it to `open_log`, then call `reset_done`."""
        raise AssertionError

    @property
    def seeding(self) -> bool:
        """Whether the log may end before `covered_index`, because a leader has not sent it that far yet."""
        raise AssertionError

    def reset_done(self) -> None:
        """The log begins at its new base."""
        raise AssertionError

    def seeded(self) -> None:
        """The log holds `covered_index`, durably. From here on an end before it is damage. Blocks."""
        raise AssertionError

    def _write(self, name: str, data: bytes) -> None:
        self._disk.write_atomic(name, _HEADER.pack(_MAGIC, len(data), crc32c(data)) + data)

    def _read(self, name: str) -> bytes:
        file = self._disk.open(name)
        try:
            content = file.read_at(0, file.size())
        finally:
            file.close()
        if len(content) < _HEADER.size:
            raise LogDamagedError(f"the snapshot file {name} is shorter than its header: restore the volume")
        magic, length, crc = _HEADER.unpack_from(content)
        data = content[_HEADER.size : _HEADER.size + length]
        if magic != _MAGIC or len(data) != length or crc32c(data) != crc:
            raise LogDamagedError(f"the snapshot file {name} does not match its checksum: restore the volume")
        return data
