"""Snapshots of state machines, and the checkpoint that says which of them count.

Each machine's snapshot is a file of its own, named by the index it covers; the checkpoint names one per machine. A
machine that did not change keeps its old file and only its covered index moves, so a checkpoint costs what changed.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Mapping, Sequence

import msgspec

from penstock.base.crc import crc32c
from penstock.log.disk import Disk
from penstock.log.errors import LogDamagedError

CHECKPOINT_NAME = "checkpoint"
SNAPSHOT_SUFFIX = ".snapshot"
_HEADER = struct.Struct("<8sII")  # magic, length, crc
_MAGIC = b"PNSTKSNP"
_FORMAT = 1
_MACHINE = re.compile("[a-z_]+")


class Snapshot(msgspec.Struct, frozen=True):
    """One machine's state as of `index`, in the machine's format `version`."""

    name: str
    version: int
    index: int
    data: bytes


class SnapshotFile:
    """A snapshot that is sent in pieces. The file stays readable when newer checkpoints replace it."""

    __slots__ = ("_file", "crc", "index", "name", "size_bytes", "version")

    def __init__(self, name: str, item: _CheckpointItem, disk: Disk) -> None:
        self._file = disk.open(item.file)
        self.name = name
        self.version = item.version
        self.index = item.index
        self.size_bytes, self.crc = _decode_header(item.file, self._file.read_at(0, _HEADER.size))

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes of the state from `position`, in a thread. They are unchecked: whoever puts the pieces together
        compares the whole with `crc`, its CRC-32C. Raises OSError."""
        size = min(size, self.size_bytes - position)
        return self._file.read_at(_HEADER.size + position, max(size, 0))

    def close(self) -> None:
        """Nothing is read any more."""
        self._file.close()


class _CheckpointItem(msgspec.Struct, array_like=True):
    file: str
    version: int
    index: int


class _Checkpoint(msgspec.Struct):
    format: int
    machines: dict[str, _CheckpointItem]
    reset_to: tuple[int, int] | None = None
    seeding: bool = False


class SnapshotStore:
    """Loads and saves snapshots in the log's folder. Saving blocks and belongs to a background thread."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._checkpoint = _Checkpoint(_FORMAT, {})
        # A checkpoint and what replicas ask for come from different threads.
        self._lock = threading.Lock()

    def load(self) -> dict[str, Snapshot]:
        """The snapshots of the last checkpoint. Raises LogDamagedError."""
        names = set(self._disk.names())
        if CHECKPOINT_NAME not in names:
            return {}
        try:
            self._checkpoint = msgspec.msgpack.decode(self._read(CHECKPOINT_NAME), type=_Checkpoint)
        except msgspec.DecodeError as error:
            raise LogDamagedError(f"the file {CHECKPOINT_NAME} cannot be read: {error}") from error
        return {snapshot.name: snapshot for snapshot in self.read_all()}

    @property
    def covered_index(self) -> int:
        """The last entry that every machine's snapshot covers; 0 without a checkpoint."""
        return min((item.index for item in self._checkpoint.machines.values()), default=0)

    def save(self, changed: Mapping[str, tuple[int, bytes]], index: int) -> None:
        """Makes `index`, an entry that the log holds, the covered index of every machine; `changed` has (version, state) of
        those to write."""
        with self._lock:
            assert self._checkpoint.reset_to is None, "the log is being reset"
            current = dict(self._checkpoint.machines)
            for name, item in current.items():
                current[name] = _CheckpointItem(item.file, item.version, index)
            for name, (version, data) in changed.items():
                current[name] = _CheckpointItem(self._write_state(name, index, data), version, index)
            self._commit(_Checkpoint(_FORMAT, current))

    # --- between replicas ------------------------------------------------------------------------

    def install(
        self, snapshots: Sequence[Snapshot], index: int, reset_to: tuple[int, int] | None = None
    ) -> None:
        """Replaces all machines' snapshots by ones that a leader sent, as of `index`: all or nothing. For a log that holds
        entry `index`; with `reset_to`, for `CommitLog.begin_reset`. Blocks. Raises OSError."""
        with self._lock:
            current: dict[str, _CheckpointItem] = {}
            for snapshot in snapshots:
                file = self._write_state(snapshot.name, index, snapshot.data)
                current[snapshot.name] = _CheckpointItem(file, snapshot.version, index)
            self._commit(_Checkpoint(_FORMAT, current, reset_to, self._checkpoint.seeding))

    def reset_done(self) -> None:
        """The log begins at the base that `reset_to` told. Blocks. Raises OSError."""
        with self._lock:
            assert self._checkpoint.reset_to is not None
            seeding = self._checkpoint.reset_to[0] < self.covered_index
            self._commit(_Checkpoint(_FORMAT, self._checkpoint.machines, None, seeding))

    def seeded(self) -> None:
        """The log holds entry `covered_index`, durably: from here on, an end before it is damage. Blocks. Raises OSError."""
        with self._lock:
            self._commit(_Checkpoint(_FORMAT, self._checkpoint.machines, self._checkpoint.reset_to))

    @property
    def reset_to(self) -> tuple[int, int] | None:
        """(index, epoch) of the base of a reset that is not finished: at a start, `finish_reset` does that."""
        return self._checkpoint.reset_to

    @property
    def seeding(self) -> bool:
        """Whether the log may end before `covered_index`, because no leader has sent it that far yet."""
        return self._checkpoint.seeding

    def read_all(self) -> list[Snapshot]:
        """The snapshots of the last checkpoint, checked. Blocks. Raises LogDamagedError, OSError."""
        with self._lock:
            return [
                Snapshot(name, item.version, item.index, self._read(item.file))
                for name, item in self._checkpoint.machines.items()
            ]

    def open_files(self) -> list[SnapshotFile]:
        """The same, for sending in pieces. Blocks. Raises LogDamagedError, OSError."""
        with self._lock:
            return [SnapshotFile(name, item, self._disk) for name, item in self._checkpoint.machines.items()]

    # --- files -----------------------------------------------------------------------------------

    def _write_state(self, name: str, index: int, data: bytes) -> str:
        """Writes a file that no checkpoint counts yet; returns its name."""
        if not _MACHINE.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a state machine")
        file = f"{name}-{index:020d}{SNAPSHOT_SUFFIX}"
        if any(item.file == file for item in self._checkpoint.machines.values()):
            # A snapshot of the same entry is in use until the checkpoint says otherwise.
            file = f"{name}-{index:020d}-b{SNAPSHOT_SUFFIX}"
        self._write(file, data)
        return file

    def _commit(self, checkpoint: _Checkpoint) -> None:
        """From here on this checkpoint counts; files that it does not name are removed."""
        self._write(CHECKPOINT_NAME, msgspec.msgpack.encode(checkpoint))
        self._checkpoint = checkpoint
        kept = {item.file for item in checkpoint.machines.values()}
        for name in self._disk.names():
            if name.endswith(SNAPSHOT_SUFFIX) and name not in kept:
                self._disk.remove(name)

    def _write(self, name: str, data: bytes) -> None:
        self._disk.write_atomic(name, _HEADER.pack(_MAGIC, len(data), crc32c(data)) + data)

    def _read(self, name: str) -> bytes:
        file = self._disk.open(name)
        try:
            content = file.read_at(0, file.size())
        finally:
            file.close()
        length, crc = _decode_header(name, content)
        data = content[_HEADER.size : _HEADER.size + length]
        if len(data) != length or crc32c(data) != crc:
            raise LogDamagedError(f"the snapshot file {name} does not match its checksum: restore the volume")
        return data


def _decode_header(name: str, head: bytes) -> tuple[int, int]:
    """(length, CRC-32C) of the state in the file. Raises LogDamagedError."""
    if len(head) < _HEADER.size:
        raise LogDamagedError(f"the snapshot file {name} is shorter than its header: restore the volume")
    magic, length, crc = _HEADER.unpack_from(head)
    if magic != _MAGIC:
        raise LogDamagedError(f"the snapshot file {name} does not match its checksum: restore the volume")
    return length, crc
