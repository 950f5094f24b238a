"""From the core's messages to the links: finds the bytes of the entries that a message announces, and keeps each peer's
messages in order while older ones are still being read from disk, or are held back for the sake of the live stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from penstock.codec.peer import Buffer
from penstock.log.errors import EntriesGoneError, LogDamagedError
from penstock.log.shipping import Shipment
from penstock.raft.messages import Append, InstallSnapshot, PeerMessage, Span
from penstock.replication.pace import Pace
from penstock.replication.wire import encode_message
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)

# Messages that may wait behind a read for one peer; the core's own limits keep it far below.
WAITING_MAX = 1024

Unreachable = Callable[[int], None]


class Links(Protocol):
    """What shipping needs of the links."""

    def send(self, member: int, buffers: Sequence[Buffer]) -> bool: ...


class Shipping:
    """Sends what the core says. `on_snapshot` is given snapshots, which travel in pieces."""

    def __init__(self, shard: Shard, links: Links) -> None:
        self._shard = shard
        self._links = links
        self._waiting: dict[int, deque[PeerMessage]] = {}
        self._pace = Pace()
        self.on_snapshot: Callable[[InstallSnapshot], None] = lambda message: None

    @property
    def waiting(self) -> int:
        """How many messages wait behind entries that are read, or are held back, for the peer that has most of them."""
        return max(map(len, self._waiting.values()), default=0)

    def send(self, messages: Sequence[PeerMessage], unreachable: Unreachable) -> None:
        """Sends each message, or calls `unreachable` with the member that cannot be sent to."""
        for message in messages:
            waiting = self._waiting.get(message.to)
            if waiting is not None:
                if len(waiting) < WAITING_MAX:
                    waiting.append(message)
                else:
                    unreachable(message.to)
            else:
                self._send(message, unreachable)

    def _send(self, message: PeerMessage, unreachable: Unreachable, *, is_due: bool = False) -> bool:
        """False when the message waits, for its turn or for a read."""
        if isinstance(message, InstallSnapshot):
            self.on_snapshot(message)
            return True
        entries: Sequence[Buffer] = ()
        if isinstance(message, Append) and message.span is not None:
            span, log = message.span, self._shard.log
            if span.first < log.first_index or span.last >= log.next_index:
                # Retention dropped them, or another leader replaced them, while the message waited.
                unreachable(message.to)
                return True
            if not is_due and (wait := self._wait(span)):
                self._waiting.setdefault(message.to, deque())
                asyncio.get_running_loop().call_later(wait, self._waited, message, unreachable)
                return False
            shipment = log.entries(span.first, span.last)
            if not shipment.in_memory:
                self._read(message, shipment, unreachable)
                return False
            entries = shipment.buffers
        if not self._links.send(message.to, encode_message(message, entries)):
            unreachable(message.to)
        return True

    def _wait(self, span: Span) -> float:
        """How many seconds these entries have to wait: none of those at the log's end, which make up the live stream, and
        none while there is no live stream because too few copies are in sync."""
        shard = self._shard
        voters = shard.machines.members.configuration.voters
        if span.last == shard.log.next_index - 1 or shard.in_sync_count <= len(voters) // 2:
            return 0.0
        return self._pace.book(asyncio.get_running_loop().time(), span.size_bytes, shard.appended_bytes)

    def _waited(self, message: PeerMessage, unreachable: Unreachable) -> None:
        if self._send(message, unreachable, is_due=True):
            self._go_on(message.to, unreachable)

    def _read(self, message: PeerMessage, shipment: Shipment, unreachable: Unreachable) -> None:
        self._waiting.setdefault(message.to, deque())
        read = self._shard.threads.read(shipment.read)
        read.add_done_callback(partial(self._was_read, message, unreachable))

    def _was_read(
        self, message: PeerMessage, unreachable: Unreachable, read: asyncio.Future[list[Buffer]]
    ) -> None:
        if read.cancelled():
            return
        error = read.exception()
        if error is None:
            if not self._links.send(message.to, encode_message(message, read.result())):
                unreachable(message.to)
        elif isinstance(error, EntriesGoneError):
            unreachable(message.to)
        elif isinstance(error, LogDamagedError | OSError):
            # This copy is bad: another member has to lead.
            logger.error("entries cannot be sent to another broker: %s", error)
            self._shard.fail(error)
            return
        else:
            raise error
        self._go_on(message.to, unreachable)

    def _go_on(self, member: int, unreachable: Unreachable) -> None:
        """Sends what waited behind a message that has left."""
        waiting = self._waiting[member]
        while waiting:
            if not self._send(waiting.popleft(), unreachable):
                return
        del self._waiting[member]
