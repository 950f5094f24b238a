"""One Kafka connection on the event loop: obeys what the pure machine says, holds the socket and nothing else.

`session.kafka_connection` decides what may start, what may be written and whether to read; `exchange` serves a request;
this module calls the transport. Ten thousand of these idle must be cheap, so all that is rare is made when needed.

A plain Protocol and not a BufferedProtocol: reading straight into the request's buffer was measured with requests of
100 kB to 10 MB and cost more, since Python clears each buffer before the kernel fills it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, cast

from penstock.listeners.kafka.exchange import start_exchange
from penstock.listeners.kafka.services import Call
from penstock.service.context import RequestContext
from penstock.session.kafka_connection import KafkaConnection

if TYPE_CHECKING:
    from penstock.listeners.kafka.counters import KafkaCounters
    from penstock.listeners.kafka.limits import KafkaLimits
    from penstock.listeners.kafka.server import KafkaListener
    from penstock.session.kafka_connection import Buffer, Slot

UNKNOWN_PEER = "an unknown peer"


class KafkaProtocol(asyncio.Protocol):
    """The driver of one connection. States: open; closing (`_closing`, output is flushed); lost (no transport)."""

    __slots__ = (
        "_closing",
        "_context",
        "_listener",
        "_machine",
        "_pump_scheduled",
        "_pumping",
        "_reading",
        "_transport",
        "_waiting_fetch",
        "active_ms",
        "closing_since_ms",
        "ended_ms",
        "unsent_bytes",
    )

    def __init__(self, listener: KafkaListener) -> None:
        self._listener = listener
        self._machine = KafkaConnection(listener.connection_limits)
        self._transport: asyncio.Transport | None = None
        self._context: RequestContext | None = None
        self._waiting_fetch: asyncio.Future[Any] | None = None
        self._closing = False
        self._reading = True
        self._pumping = False
        self._pump_scheduled = False
        # Times are those of the listener's last sweep: exact enough, and free.
        self.active_ms = listener.now_ms
        self.ended_ms = 0
        self.closing_since_ms = 0
        # What a slow reader has not taken; 0 while the peer keeps up.
        self.unsent_bytes = 0

    # --- what the transport tells ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admits the connection, or closes it when there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self):
            self._closing = True
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=self._listener.limits.response_bytes_high)

    def data_received(self, data: bytes) -> None:
        """Takes bytes and starts what may start."""
        listener = self._listener
        listener.counters.bytes_in += len(data)
        self.active_ms = listener.now_ms
        if self._closing:
            return
        machine = self._machine
        machine.receive(data)
        listener.received(len(data))
        self._pump()

    def eof_received(self) -> bool:
        """The peer sends no more. True keeps the way back open until everything asked is answered."""
        self._machine.receive_eof()
        self.ended_ms = self._listener.now_ms
        self._pump()
        return True

    def pause_writing(self) -> None:
        """The peer does not take what is written: nothing more is started for it."""
        self._machine.write_paused = True
        self._listener.slow_reader(self)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._machine.write_paused = False
        self._listener.caught_up(self)
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the socket. Requests in flight end on their own; a waiting fetch is cancelled."""
        self._transport = None
        self._closing = True
        self._listener.lost(self)
        if self._waiting_fetch is not None:
            self._waiting_fetch.cancel()

    # --- what an exchange asks (exchange.Connection) ----------------------------------------------

    @property
    def counters(self) -> KafkaCounters:
        """The listener's counters."""
        return self._listener.counters

    @property
    def limits(self) -> KafkaLimits:
        """The listener's limits."""
        return self._listener.limits

    def call(self, client_id: str | None, version: int) -> Call:
        """A request's surroundings; the identity is made once for each client id."""
        name = client_id or ""
        context = self._context
        if context is None or context.client_id != name:
            context = RequestContext(self._listener.name, "kafka", name, self.peer_host)
            self._context = context
        return Call(self._listener.services, context, version, self._listener.fetch_bytes_max)

    def begin(self, frame: memoryview) -> Slot:
        """Reserves the place of a response."""
        slot = self._machine.begin(frame)
        self._listener.request_started(len(frame), slot.held_bytes)
        return slot

    def finish(self, slot: Slot, buffers: Sequence[Buffer], count: int) -> None:
        """Files a response and writes what is due. After the connection is lost, only accounts are settled."""
        if slot.held_bytes:
            self._listener.request_done(slot.held_bytes)
            slot.held_bytes = 0
        transport = self._transport
        if transport is None or self._closing:
            return
        machine = self._machine
        ready = machine.complete(slot, buffers)
        self._listener.counters.bytes_out += count
        if len(ready) == 1:
            transport.write(ready[0])
        elif ready:
            transport.writelines(ready)
        if not self._pumping and (machine.blocked or machine.eof):
            self._pump()

    def spawn(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Runs a coroutine as a task of the listener; a future is passed through."""
        return self._listener.spawn(work)

    def watch(self, future: asyncio.Future[Any] | None) -> None:
        """The fetch that waits, or none."""
        self._waiting_fetch = future

    def close_for(self, sentence: str) -> None:
        """Ends the connection because of what the peer did, and says so in the log."""
        if self._closing:
            return
        self._listener.closed_for_cause(self, sentence)
        self.close()

    # --- what the listener asks -------------------------------------------------------------------

    @property
    def machine(self) -> KafkaConnection:
        """The state of this connection."""
        return self._machine

    @property
    def peer_host(self) -> str:
        """The peer's address without its port, empty when it is gone."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if name else ""

    @property
    def peer(self) -> str:
        """The peer for a log line: address, port and client id."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        where = f"{name[0]}:{name[1]}" if name else UNKNOWN_PEER
        if self._context is not None and self._context.client_id:
            return f"{where} (client id {self._context.client_id[:64]!r})"
        return where

    @property
    def is_closing(self) -> bool:
        """Whether the connection takes no more requests and writes no more responses."""
        return self._closing

    @property
    def is_ending(self) -> bool:
        """Whether the peer, or the listener, has ended its side."""
        return self._closing or self._machine.eof

    def close(self) -> None:
        """Takes no more requests, flushes what is written, closes."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self.closing_since_ms = self._listener.now_ms
        self._transport.close()

    def abort(self) -> None:
        """Closes at once and forgets what is not yet sent."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """Starts no more requests and closes when those in flight are answered; a waiting fetch is given up."""
        self._machine.drain()
        if self._waiting_fetch is not None:
            self._waiting_fetch.cancel()
        self._pump()

    def unsent_now(self) -> int:
        """Bytes that the transport still holds."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def obey(self) -> None:
        """Starts or stops reading, or closes, as machine and listener say."""
        machine = self._machine
        if self._closing or self._transport is None:
            return
        if machine.fault is not None:
            self.close_for(machine.fault)
            return
        if machine.finished:
            if machine.is_mid_request:
                self.close_for("it ended in the middle of a request")
            self.close()
            return
        reading = machine.wants_read and not self._pump_scheduled and self._listener.may_read(self)
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # --- inside -----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Starts requests until the machine has none that may start, or the turn of this connection is over."""
        if self._closing or self._pumping or self._pump_scheduled:
            return
        machine = self._machine
        self._pumping = True
        try:
            for _ in range(self._listener.limits.requests_per_turn_max):
                frame = machine.next_request()
                if frame is None:
                    break
                start_exchange(self, frame)
                if self._closing:
                    return
            else:
                self._pump_scheduled = True
                self._listener.loop.call_soon(self._pump_again)
        finally:
            self._pumping = False
        self.obey()

    def _pump_again(self) -> None:
        self._pump_scheduled = False
        self._pump()
