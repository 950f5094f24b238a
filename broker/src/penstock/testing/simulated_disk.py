"""A disk in memory that forgets what was not synced, for tests of everything that must survive a power loss.

It implements `penstock.log.disk.Disk` and makes only faults that the design promises to survive: at a power loss each
unsynced write may be kept, lost, or torn at a sector boundary, in any combination; of the folder's unsynced changes
(creation, renaming, removal) a prefix is kept, as a journalling file system does, and so it is with a file's truncations.
What was synced stays as it was.
A number of operations can be set after which the power goes: the operation itself may be done in part.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence

Buffer = bytes | bytearray | memoryview

SECTOR_BYTES = 512

_WRITE, _TRUNCATE, _ALLOCATE = "write", "truncate", "allocate"


class PowerLossError(Exception):
    """The power went during an operation."""


class _Content:
    """One file: what is on stable storage, and what was done since."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.volatile = bytearray()
        # (kind, position or size, data) in order.
        self.unsynced: list[tuple[str, int, bytes]] = []

    def write(self, position: int, data: bytes) -> None:
        end = position + len(data)
        self._grow(self.volatile, end)
        self.volatile[position:end] = data
        self.unsynced.append((_WRITE, position, data))

    def truncate(self, size: int) -> None:
        del self.volatile[size:]
        self.unsynced.append((_TRUNCATE, size, b""))

    def allocate(self, size: int) -> None:
        self._grow(self.volatile, size)
        self.unsynced.append((_ALLOCATE, size, b""))

    def sync(self) -> None:
        self.durable = bytearray(self.volatile)
        self.unsynced.clear()

    def lose(self, chance: random.Random) -> None:
        kept = self.durable
        truncations = sum(kind == _TRUNCATE for kind, _, _ in self.unsynced)
        truncations_kept = chance.randint(0, truncations) if truncations else 0
        journal_ended = False
        for kind, at, data in self.unsynced:
            if kind == _TRUNCATE:
                journal_ended = journal_ended or truncations_kept == 0
                if not journal_ended:
                    truncations_kept -= 1
                    del kept[at:]
            elif kind == _ALLOCATE:
                # A size is metadata: it is kept with the zeros even where the data is not.
                if not journal_ended:
                    self._grow(kept, at)
            else:
                self._grow(kept, at + len(data))
                for start, end in _sectors(at, len(data)):
                    if chance.random() < 0.5:
                        kept[start:end] = data[start - at : end - at]
        self.volatile = bytearray(kept)
        self.unsynced.clear()

    @staticmethod
    def _grow(data: bytearray, size: int) -> None:
        data.extend(bytes(max(size - len(data), 0)))


def _sectors(position: int, size: int) -> list[tuple[int, int]]:
    """The pieces of a write that a disk does whole."""
    pieces, at, end = [], position, position + size
    while at < end:
        stop = min((at // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        pieces.append((at, stop))
        at = stop
    return pieces


class SimulatedFile:
    """An open file. After a power loss it must be opened again."""

    def __init__(self, disk: SimulatedDisk, content: _Content) -> None:
        self._disk = disk
        self._content = content

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> int:
        data = b"".join(buffers)
        self._disk.need(position + len(data) - len(self._content.volatile))
        self._disk.operation(
            lambda: self._content.write(position, data[: self._disk.chance.randint(0, len(data))])
        )
        self._content.write(position, data)
        return len(data)

    def read_at(self, position: int, size: int) -> bytes:
        return bytes(self._content.volatile[position : position + size])

    def sync(self) -> None:
        self._disk.operation()
        if self._disk.sync_fails:
            raise OSError(errno.EIO, "the simulated disk cannot sync")
        if self._disk.sync_works:
            self._content.sync()

    def allocate(self, size: int) -> None:
        self._disk.operation()
        self._disk.need(size - len(self._content.volatile))
        self._content.allocate(size)

    def size(self) -> int:
        return len(self._content.volatile)

    def truncate(self, size: int) -> None:
        self._disk.operation(lambda: self._content.truncate(size))
        self._content.truncate(size)

    def close(self) -> None:
        return None


class SimulatedDisk:
    """A folder of files. `sync_works=False` takes the fdatasync out: data loss must then be noticed by the test."""

    def __init__(self, seed: int, *, capacity_bytes: int = 1 << 40, sync_works: bool = True) -> None:
        self.chance = random.Random(seed)
        self.capacity_bytes = capacity_bytes
        self.sync_works = sync_works
        self.sync_fails = False
        self._files: dict[str, _Content] = {}
        self._durable_names: dict[str, _Content] = {}
        self._folder_log: list[tuple[str, str, str, _Content | None]] = []
        self._operations_left: int | None = None
        self._off = False

    # --- faults ----------------------------------------------------------------------------------

    def fail_after(self, operations: int | None) -> None:
        """Switches the power on; it goes during the operation after this many, None: it stays."""
        self._operations_left = operations
        self._off = False

    def switch_off(self) -> None:
        """Nothing is done any more until `fail_after` switches the power on; what is not synced is kept for now."""
        self._off = True

    def operation(self, part: Callable[[], None] | None = None) -> None:
        """Counts one operation; when its time has come, does a part of it and loses the power."""
        if self._off:
            raise PowerLossError
        if self._operations_left is None:
            return
        self._operations_left -= 1
        if self._operations_left < 0:
            if part is not None:
                part()
            self.lose_power()
            self._off = True
            raise PowerLossError

    def lose_power(self) -> None:
        """Forgets what was not synced, as described above."""
        kept = self.chance.randint(0, len(self._folder_log))
        for change in self._folder_log[:kept]:
            _replay(self._durable_names, *change)
        self._folder_log.clear()
        self._files = dict(self._durable_names)
        for content in {id(content): content for content in self._files.values()}.values():
            content.lose(self.chance)
        self._operations_left = None

    # --- Disk ------------------------------------------------------------------------------------

    def open(self, name: str, *, create: bool = False) -> SimulatedFile:
        content = self._files.get(name)
        if content is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", name)
            self.operation()
            content = self._files[name] = _Content()
            self._folder_log.append(("create", name, "", content))
        return SimulatedFile(self, content)

    def names(self) -> list[str]:
        return sorted(self._files)

    def rename(self, old: str, new: str) -> None:
        self.operation()
        self._files[new] = self._files.pop(old)
        self._folder_log.append(("rename", old, new, None))

    def remove(self, name: str) -> None:
        self.operation()
        if self._files.pop(name, None) is not None:
            self._folder_log.append(("remove", name, "", None))

    def sync_folder(self) -> None:
        self.operation()
        if self.sync_works:
            self._durable_names = dict(self._files)
            self._folder_log.clear()

    def write_atomic(self, name: str, data: bytes) -> None:
        temporary = name + ".new"
        file = self.open(temporary, create=True)
        file.truncate(0)
        file.write_at(0, [data])
        file.sync()
        self.rename(temporary, name)
        self.sync_folder()

    def space_bytes(self) -> tuple[int, int]:
        return self.capacity_bytes, self.available_bytes()

    def need(self, grown_bytes: int) -> None:
        """Raises OSError(ENOSPC) when a file cannot grow by that much."""
        if grown_bytes > 0 and grown_bytes > self.available_bytes():
            raise OSError(errno.ENOSPC, "the simulated disk is full")

    def available_bytes(self) -> int:
        """What is left of the capacity."""
        return self.capacity_bytes - sum(len(content.volatile) for content in self._files.values())

    def durable(self, name: str) -> bytes | None:
        """What is on stable storage under that name."""
        content = self._durable_names.get(name)
        return None if content is None else bytes(content.durable)

    def corrupt(self, name: str, position: int) -> None:
        """Flips a bit of what is stored."""
        content = self._files[name]
        content.volatile[position] ^= 0x10
        content.durable = bytearray(content.volatile)


def _replay(names: dict[str, _Content], kind: str, name: str, new: str, content: _Content | None) -> None:
    if kind == "create":
        assert content is not None
        names[name] = content
    elif kind == "rename":
        if name in names:
            names[new] = names.pop(name)
    else:
        names.pop(name, None)
