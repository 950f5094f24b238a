"""Seeding: a leader sends its state to a member that misses more than the log holds, and that member takes it.

The sender reads the files of its checkpoint in a thread, piece by piece, at the pace of the link. The receiver replaces
log and state at once when everything is there; until its log has reached what the state covers, it says so on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from penstock.codec.peer import KIND_SEED, Buffer, PeerFrame, encode_frame
from penstock.log.errors import LogDamagedError
from penstock.log.maintenance import DISK_FULL_RETRY_SECONDS, disk_is_full
from penstock.log.reset import ResetJob
from penstock.log.snapshots import SnapshotStore
from penstock.raft.messages import InstallSnapshot, MessageError, Snapshot
from penstock.runtime.seed import (
    PIECE_BYTES,
    Seed,
    SeedBegins,
    SeedFile,
    SeedMessage,
    SeedPiece,
    SeedReceiver,
)
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)

# What may be pending on the link behind which the next piece waits: the rest of one piece and one more.
PENDING_BYTES_MAX = PIECE_BYTES
# A link with more pending is tried again at this interval, this often.
RETRY_SECONDS = 0.01
RETRIES_MAX = 3000

_decoder: msgspec.msgpack.Decoder[SeedMessage] = msgspec.msgpack.Decoder(SeedMessage)


class Links(Protocol):
    """What seeding needs of the links."""

    def send(self, member: int, buffers: Sequence[Buffer], pending_bytes_max: int) -> bool: ...


class Seeding:
    """Implements `runtime.replica.Seeding`. `quiet` waits until no file work of the shard's duties is under way and
    keeps them from beginning until the returned function is called."""

    def __init__(
        self,
        shard: Shard,
        snapshots: SnapshotStore,
        links: Links,
        covered: Callable[[], int],
        quiet: Callable[[], Awaitable[Callable[[], None]]],
        report: Callable[[int, bool], None],
    ) -> None:
        self._shard = shard
        self._snapshots = snapshots
        self._links = links
        self._covered = covered
        self._quiet = quiet
        self._report = report
        self._receiver = SeedReceiver()
        # Told of the entry that the new state is as of.
        self.on_begun_anew: Callable[[int], None] = lambda covered_index: None
        self._number = 0
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- sending ---------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot | None:
        """See `LogPort.snapshot`: the state as of the last checkpoint, and the log from its first entry on."""
        shard = self._shard
        base = shard.log.first_index - 1
        if base > self._covered():
            return None
        members = shard.machines.members.configuration
        return Snapshot(base, shard.log.epoch_of(base), members, payload=shard.commit_index)

    def send(self, message: InstallSnapshot) -> None:
        """Begins to send the state to a member."""
        if message.to in self._sending:
            return
        self._number += 1
        task = asyncio.create_task(self._send(message, self._number))
        self._sending[message.to] = task
        task.add_done_callback(partial(self._sent, message.to))

    async def _send(self, message: InstallSnapshot, number: int) -> None:
        read = self._shard.threads.read
        configured_index = message.snapshot.payload
        assert isinstance(configured_index, int)
        files = await read(self._snapshots.open_files)
        described = tuple(SeedFile(f.name, f.version, f.size_bytes, f.crc) for f in files)
        logger.info(
            "sending member %d the state as of entry %d, %d bytes",
            message.to,
            self._snapshots.covered_index,
            sum(file.size_bytes for file in described),
        )
        covered_index = files[0].index
        await self._offer(message.to, SeedBegins(number, message, covered_index, configured_index, described))
        for place, file in enumerate(files):
            for position in range(0, file.size_bytes, PIECE_BYTES):
                data = await read(partial(file.read, position, PIECE_BYTES))
                await self._offer(message.to, SeedPiece(number, place), data)

    async def _offer(self, member: int, message: SeedMessage, data: bytes = b"") -> None:
        buffers = encode_frame(KIND_SEED, msgspec.msgpack.encode(message), [data] if data else ())
        for _ in range(RETRIES_MAX):
            if self._links.send(member, buffers, PENDING_BYTES_MAX):
                return
            await asyncio.sleep(RETRY_SECONDS)
        raise ConnectionError(f"member {member} did not take its snapshot")

    def _sent(self, member: int, task: asyncio.Task[None]) -> None:
        del self._sending[member]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            # It may be lost yet, or too old by the time it is installed: what the member answers to the next message
            # tells, and then the core sends another one.
            self._report(member, True)
            return
        logger.warning("the state could not be sent to member %d: %s", member, error)
        self._report(member, False)
        if not isinstance(error, OSError | LogDamagedError):
            raise error

    # --- receiving -------------------------------------------------------------------------------

    def received(self, frame: PeerFrame) -> InstallSnapshot | None:
        """A frame of a seed; the core's message once all is there. Raises MessageError."""
        try:
            message = _decoder.decode(frame.meta)
        except msgspec.DecodeError as error:
            raise MessageError(f"a piece of a snapshot cannot be read: {error}") from error
        return self._receiver.receive(message, frame.data)

    def install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """See `replica.Seeding.install`."""
        task = asyncio.create_task(self._install(snapshot))
        self._tasks.add(task)
        task.add_done_callback(partial(self._installed, done))

    async def _install(self, snapshot: Snapshot) -> None:
        seed = snapshot.payload
        assert isinstance(seed, Seed)
        resume = await self._quiet()
        try:
            log = self._shard.log
            while log.has_job:
                # Of entries that are about to go; the writer has finished when it gets here.
                await self._shard.threads.write(_nothing)
            job = log.begin_reset(
                snapshot.index, snapshot.epoch, self._snapshots, seed.machines, seed.covered_index
            )
            await self._run(job)
            log.complete_reset(job)
            self._shard.begin_anew(snapshot.index, seed.covered_index, seed.machines)
            self.on_begun_anew(seed.covered_index)
        finally:
            resume()
        logger.info(
            "took the state as of entry %d; the log begins behind %d", seed.covered_index, snapshot.index
        )

    async def _run(self, job: ResetJob) -> None:
        """As an append that finds no room, it waits for some."""
        told = False
        while True:
            try:
                await self._shard.threads.write(job.run)
            except OSError as error:
                if not disk_is_full(error):
                    raise
            else:
                return
            if not told:
                told = True
                logger.warning("the leader's snapshot waits: the disk is full, free space or grow the volume")
            await asyncio.sleep(DISK_FULL_RETRY_SECONDS)

    def _installed(self, done: Callable[[], None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._shard.fail(error)
            return
        done()

    def tick(self) -> None:
        """Once the log has reached what the state covers, an end before it is damage again."""
        if self._tasks:
            return  # The disk has the new state, and log and state here may still be those of before.
        if self._snapshots.seeding and self._shard.log.durable_index >= self._shard.state_index:
            task = asyncio.ensure_future(self._shard.threads.background(self._snapshots.seeded))
            task.add_done_callback(self._seeded)

    def _seeded(self, task: asyncio.Future[None]) -> None:
        error = None if task.cancelled() else task.exception()
        # On a full disk the next tick tries again.
        if error is not None and not (isinstance(error, OSError) and disk_is_full(error)):
            self._shard.fail(error)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [*self._sending.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _nothing() -> None:
    """What is waited for is all that the writer does before it."""
