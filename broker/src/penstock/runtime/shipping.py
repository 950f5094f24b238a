"""From the core's messages to the links: finds the bytes of the entries that a message announces, and keeps each peer's
messages in order while older ones are still being read from disk.
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
from penstock.raft.messages import Append, InstallSnapshot, PeerMessage
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
        self.on_snapshot: Callable[[InstallSnapshot], None] = lambda message: None

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

    def _send(self, message: PeerMessage, unreachable: Unreachable) -> bool:
        """False when the message waits for a read."""
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
            shipment = log.entries(span.first, span.last)
            if not shipment.in_memory:
                self._read(message, shipment, unreachable)
                return False
            entries = shipment.buffers
        if not self._links.send(message.to, encode_message(message, entries)):
            unreachable(message.to)
        return True

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
        waiting = self._waiting[message.to]
        while waiting:
            if not self._send(waiting.popleft(), unreachable):
                return
        del self._waiting[message.to]
