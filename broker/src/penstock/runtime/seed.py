"""A snapshot on its way to another member: what its pieces are called, and putting them together again.

The snapshot is every state machine's file of the leader's checkpoint. Its log entries follow as ordinary appends, from
the oldest one that the leader still has; entries that the files cover are kept for consumers and not applied again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from penstock.base.crc import crc32c
from penstock.log.snapshots import Snapshot as MachineSnapshot
from penstock.raft.messages import InstallSnapshot, MessageError, Snapshot

PIECE_BYTES = 1024 * 1024
# All machines' states together.
SEED_BYTES_MAX = 1024 * 1024 * 1024
MACHINES_MAX = 64


class SeedingPort(Protocol):
    """Takes a snapshot that a leader sends, and gives those that a follower needs."""

    def snapshot(self) -> Snapshot | None:
        """See `LogPort.snapshot`."""
        ...

    def install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Replaces log and state; calls back when that is durable."""
        ...


class SeedFile(msgspec.Struct, frozen=True, array_like=True):
    """One machine's state: its length and checksum."""

    name: str
    version: int
    size_bytes: int
    crc: int


class SeedBegins(msgspec.Struct, frozen=True, tag="begins"):
    """What follows: the files in this order, as of entry `covered_index`; `install` goes to the core at the end. Its
    configuration counts every change of the members up to entry `configured_index`."""

    number: int
    install: InstallSnapshot
    covered_index: int
    configured_index: int
    files: tuple[SeedFile, ...]


class SeedPiece(msgspec.Struct, frozen=True, tag="piece"):
    """The next bytes of a file."""

    number: int
    file: int


SeedMessage = SeedBegins | SeedPiece


class Seed(msgspec.Struct, frozen=True):
    """A snapshot that is complete and checked: the payload of the core's snapshot."""

    covered_index: int
    configured_index: int
    machines: tuple[MachineSnapshot, ...]


class SeedReceiver:
    """Collects one seed; a new one begins from nothing."""

    def __init__(self) -> None:
        self._begins: SeedBegins | None = None
        self._received: list[bytearray] = []

    def receive(self, message: SeedMessage, data: memoryview) -> InstallSnapshot | None:
        """The core's message once everything is there, with a `Seed` as the snapshot's payload. Raises MessageError,
        after which the seed has to begin anew."""
        try:
            if isinstance(message, SeedBegins):
                self._begin(message)
            else:
                self._piece(message, data)
            return self._complete()
        except MessageError:
            self._begins = None
            self._received = []
            raise

    def _begin(self, begins: SeedBegins) -> None:
        if len(begins.files) > MACHINES_MAX or sum(file.size_bytes for file in begins.files) > SEED_BYTES_MAX:
            raise MessageError(f"a snapshot of more than {SEED_BYTES_MAX} bytes was announced")
        if any(file.size_bytes < 0 for file in begins.files):
            raise MessageError("a snapshot with a file of less than no bytes was announced")
        self._begins = begins
        self._received = [bytearray() for _ in begins.files]

    def _piece(self, piece: SeedPiece, data: memoryview) -> None:
        begins = self._begins
        if begins is None or piece.number != begins.number:
            # Of a snapshot that was given up.
            return
        if not 0 <= piece.file < len(begins.files):
            raise MessageError(f"a piece of file {piece.file} came, there are {len(begins.files)}")
        received = self._received[piece.file]
        if len(received) + len(data) > begins.files[piece.file].size_bytes:
            raise MessageError(f"{begins.files[piece.file].name} is longer than was announced")
        received += data

    def _complete(self) -> InstallSnapshot | None:
        begins = self._begins
        if begins is None:
            return None
        pairs = list(zip(begins.files, self._received, strict=True))
        if any(len(received) < file.size_bytes for file, received in pairs):
            return None
        for file, received in pairs:
            if crc32c(received) != file.crc:
                raise MessageError(f"the state of {file.name} does not match its checksum")
        seed = Seed(
            begins.covered_index,
            begins.configured_index,
            tuple(
                MachineSnapshot(file.name, file.version, begins.covered_index, bytes(received))
                for file, received in pairs
            ),
        )
        self._begins = None
        self._received = []
        snapshot = msgspec.structs.replace(begins.install.snapshot, payload=seed)
        return msgspec.structs.replace(begins.install, snapshot=snapshot)
