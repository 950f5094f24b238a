"""The few things that the log asks of a file system, as a port, and the real one.

Everything here blocks and is called from the writer's or the readers' threads, or at start. The simulated disk in
`penstock.testing` implements the same port, loses what was not synced, and passes the same tests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Buffer = bytes | bytearray | memoryview

# The kernel takes at most this many buffers in one writev.
IOV_MAX = 1024


class File(Protocol):
    """An open file, read and written at positions."""

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> int:
        """Writes all buffers back to back from `position`; returns the bytes written. Raises OSError."""
        ...

    def read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position`; fewer only at the end of the file."""
        ...

    def sync(self) -> None:
        """Returns once the data written so far is on stable storage. An error here is final."""
        ...

    def allocate(self, size: int) -> None:
        """Reserves `size` bytes, which read as zeros. Raises OSError(ENOSPC)."""
        ...

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One folder of flat file names."""

    def open(self, name: str, *, create: bool = False) -> File: ...

    def names(self) -> list[str]: ...

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def sync_folder(self) -> None:
        """Makes creations, renames and removals durable."""
        ...

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replaces the file's content whole and durably, or not at all."""
        ...

    def space_bytes(self) -> tuple[int, int]:
        """(total, available) of the volume."""
        ...


class RealFile:
    """A file descriptor. It is closed by `close`, or when the last who could read from it lets go: a removed segment may
    still be read by a fetch that is under way, and its blocks are free only once nobody holds it open."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> int:
        total = 0
        for start in range(0, len(buffers), IOV_MAX):
            chunk = buffers[start : start + IOV_MAX]
            size = sum(map(len, chunk))
            written = os.pwritev(self._descriptor, chunk, position)
            while written < size:
                # A short write happens near a full disk or on a signal: the rest goes as one buffer.
                rest = b"".join(chunk)[written:]
                written += os.pwrite(self._descriptor, rest, position + written)
            position += size
            total += size
        return total

    def read_at(self, position: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, position)
        while 0 < len(data) < size:
            more = os.pread(self._descriptor, size - len(data), position + len(data))
            if not more:
                break
            data += more
        return data

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def allocate(self, size: int) -> None:
        os.posix_fallocate(self._descriptor, 0, size)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class RealDisk:
    """A folder of the operating system's file system; made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, *, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return RealFile(os.open(self.folder / name, flags, 0o640))

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.folder) if entry.is_file())

    def rename(self, old: str, new: str) -> None:
        os.rename(self.folder / old, self.folder / new)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def write_atomic(self, name: str, data: bytes) -> None:
        temporary = name + ".new"
        file = self.open(temporary, create=True)
        try:
            file.truncate(0)
            file.write_at(0, [data])
            file.sync()
        finally:
            file.close()
        self.rename(temporary, name)
        self.sync_folder()

    def space_bytes(self) -> tuple[int, int]:
        status = os.statvfs(self.folder)
        return status.f_frsize * status.f_blocks, status.f_frsize * status.f_bavail
