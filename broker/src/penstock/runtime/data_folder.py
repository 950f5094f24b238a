"""The data folder: who it belongs to, and that only one broker uses it.

`meta.json` is the member's identity (cluster, shard, storage) and the newest epoch it ever took, always synced before
the epoch is used. `lock` is held with flock for the life of the process, so it cannot be left behind.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.log.disk import Disk, RealDisk
from penstock.log.errors import DataFolderError
from penstock.replication.recovery import Recovery

META_NAME = "meta.json"
LOCK_NAME = "lock"
LOG_FOLDER = "log"
FORMAT = 1


class Meta(msgspec.Struct, rename="camel"):
    """What `meta.json` holds."""

    format: int
    cluster_id: str
    shard_id: int
    shard_uid: uuid.UUID
    storage_id: uuid.UUID
    ordinal: int
    epoch: int = 0
    # Who got this member's vote in `epoch`; 0 is nobody.
    vote: int = 0
    # The last epoch that this member led in mode MasterSlave: what it wrote in it, the next master may lack.
    led: int = 0
    # The machine's boot in which the member runs under flush: async; empty after a clean stop.
    running_boot: str = ""
    # Why the log is being thrown away; empty when it is not.
    forgotten: str = ""
    # The last recovery for which this member was trusted. It is written here first, and then into the log.
    recovery: Recovery | None = None
    # Generation and lineage of the shard's last recovery before this member joined it.
    joined: tuple[int, str] = (0, "")
    # Why this copy must not take part any more; empty when it may.
    left_behind: str = ""


class MetaStore(Protocol):
    """Where the epoch and the vote are kept. `save_meta` blocks and is durable when it returns."""

    def save_meta(self, meta: Meta) -> None: ...


class DataFolder:
    """An opened and locked data folder. Raises DataFolderError with a sentence when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._disk = RealDisk(path)
        except OSError as error:
            raise DataFolderError(f"the data folder {path} cannot be made: {error.strerror}") from error
        self._lock = self._take_lock()
        self.log_disk: Disk = RealDisk(path / LOG_FOLDER)

    def _take_lock(self) -> int:
        try:
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise DataFolderError(
                f"the data folder {self.path} cannot be written to: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise DataFolderError(
                f"the data folder {self.path} is in use by another broker (process {holder}):"
                " stop that one, or give this one a folder of its own with --data"
            ) from error
        # Over what is there and then cut, so that a full disk has to give no new block.
        size = os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        os.ftruncate(descriptor, size)
        return descriptor

    def load_meta(self) -> Meta | None:
        """The identity, or None for a new folder."""
        path = self.path / META_NAME
        if not path.exists():
            if any(name.endswith(".log") for name in self.log_disk.names()):
                raise DataFolderError(
                    f"{self.path} holds a log but no {META_NAME}: restore that file, or use an empty folder"
                )
            return None
        try:
            meta = msgspec.json.decode(path.read_bytes(), type=Meta)
        except (msgspec.DecodeError, OSError) as error:
            raise DataFolderError(f"{path} cannot be read ({error}): restore it from a backup") from error
        if meta.format != FORMAT:
            raise DataFolderError(
                f"{self.path} has data format {meta.format}, this release reads {FORMAT}: upgrade Penstock"
            )
        return meta

    def save_meta(self, meta: Meta) -> None:
        """Replaces the identity, durably."""
        self._disk.write_atomic(META_NAME, msgspec.json.format(msgspec.json.encode(meta)))

    def close(self) -> None:
        """Lets another broker have the folder."""
        os.close(self._lock)


def claim(
    folder: DataFolder, *, cluster_id: str, shard_id: int, shard_uid: str, ordinal: int, new_cluster_id: str
) -> Meta:
    """The folder's identity, made now for a new folder. What the configuration names must agree with it."""
    meta = folder.load_meta()
    if meta is None:
        return Meta(
            format=FORMAT,
            cluster_id=cluster_id or new_cluster_id,
            shard_id=shard_id,
            shard_uid=uuid.UUID(shard_uid) if shard_uid else uuid.uuid4(),
            storage_id=uuid.uuid4(),
            ordinal=ordinal,
        )
    for what, configured, kept in (
        ("cluster.id", cluster_id, meta.cluster_id),
        ("shard.uid", shard_uid, str(meta.shard_uid)),
        ("shard.id", str(shard_id), str(meta.shard_id)),
        ("broker.ordinal", str(ordinal), str(meta.ordinal)),
    ):
        if configured and configured != kept:
            raise DataFolderError(
                f"the data folder {folder.path} belongs to {what} {kept}, but the configuration says {configured}:"
                " use the folder of this broker, or an empty one"
            )
    if meta.left_behind:
        raise DataFolderError(f"the data folder {folder.path} is left as it is: {meta.left_behind}")
    return meta
