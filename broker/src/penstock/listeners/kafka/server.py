"""The Kafka listener: accepts connections, holds what they share, and ends them in order.

Shared by all connections are the two memory bounds (requests not yet answered, responses not yet taken), the
counters, the tasks, and one sweep a second that finds who is idle, half closed or stalled. A listener is started once
and stopped once: stop accepting, finish what is in flight, flush, close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from penstock.codec.kafka.apis import load_all
from penstock.listeners.kafka.closing import CloseLog
from penstock.listeners.kafka.counters import KafkaCounters
from penstock.listeners.kafka.limits import ACCEPT_BACKLOG, FETCH_BYTES_MIN, SWEEP_MS, KafkaLimits
from penstock.listeners.kafka.protocol import KafkaProtocol
from penstock.listeners.kafka.services import KafkaServices
from penstock.session.kafka_connection import LENGTH_SIZE
from penstock.session.request_memory import RequestMemory

logger = logging.getLogger("penstock.listeners.kafka")


class KafkaListener:
    """One listening socket and its connections.

    `host` and `port` are where to listen (port 0 lets the system choose; `address` has the choice); `name` is the
    listener's name, by which services know what address clients are to be told.
    """

    def __init__(
        self, name: str, host: str, port: int, services: KafkaServices, limits: KafkaLimits | None = None
    ) -> None:
        self.name = name
        self.services = services
        self.limits = limits or KafkaLimits()
        self.connection_limits = self.limits.connection
        self.counters = KafkaCounters()
        self.memory = RequestMemory(self.limits.queued_request_bytes_max)
        self.now_ms = 0
        self.loop: asyncio.AbstractEventLoop
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        # What was asked for, and once it listens the real one, which others are told of also while it stops.
        self.address: tuple[str, int] = (host, port)
        self._connections: set[KafkaProtocol] = set()
        self._slow: set[KafkaProtocol] = set()
        self._unsent_bytes = 0
        self._favoured: KafkaProtocol | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._close_log = CloseLog(name)
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event = asyncio.Event()
        self._emptied.set()

    # --- start and stop ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Listens. Raises OSError where host and port cannot be had."""
        load_all()
        self.loop = asyncio.get_running_loop()
        self.now_ms = self.services.clock()
        self._server = await self.loop.create_server(
            lambda: KafkaProtocol(self), self._host, self._port, backlog=ACCEPT_BACKLOG
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = (str(host), int(port))
        self._sweeper = self.loop.call_later(SWEEP_MS / 1000, self._sweep)

    async def stop(self) -> None:
        """Accepts no more, answers what is in flight within `stop_ms_max`, flushes, closes. May be called again."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            await asyncio.wait_for(self._emptied.wait(), self.limits.stop_ms_max / 1000)
        except TimeoutError:
            logger.warning(
                "listener %s: %d connections still had requests in flight after %d ms and were cut off",
                self.name,
                len(self._connections),
                self.limits.stop_ms_max,
            )
            for connection in list(self._connections):
                connection.abort()
            await self._emptied.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    # --- what connections tell --------------------------------------------------------------------

    def admit(self, connection: KafkaProtocol) -> bool:
        """Whether a new connection may stay (`max.connections`)."""
        counters = self.counters
        counters.connections_opened += 1
        if len(self._connections) >= self.limits.connections_max or self._server is None:
            counters.connections_refused += 1
            self._close_log.write(
                connection.peer,
                f"{len(self._connections)} connections are open, which is max.connections",
                self.now_ms,
            )
            return False
        self._connections.add(connection)
        counters.connections_open += 1
        self._emptied.clear()
        return True

    def lost(self, connection: KafkaProtocol) -> None:
        """A connection is gone: what it held and nobody works on is given back."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self.counters.connections_open -= 1
        self.caught_up(connection)
        if self._favoured is connection:
            self._favoured = None
        self._release(connection.machine.forget())
        if not self._connections:
            self._emptied.set()

    def closed_for_cause(self, connection: KafkaProtocol, sentence: str) -> None:
        """One line in the log, within the budget."""
        self.counters.closed_for_cause += 1
        self._close_log.write(connection.peer, sentence, self.now_ms)

    def spawn(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """A task that `stop` waits for; a future stays its maker's."""
        if isinstance(work, asyncio.Future):
            return work
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- memory of requests -----------------------------------------------------------------------

    def received(self, count: int) -> None:
        """Counts bytes read; when the bound is reached, everybody stops reading."""
        if self.memory.receive(count):
            self.memory.stop(self.services.clock())
            self._obey_all()
            self._choose_favoured()

    def request_started(self, frame_bytes: int, held_bytes: int) -> None:
        """A request is being served; one that keeps nothing is given back at once."""
        # The favoured connection has what it was favoured for: it does not begin its next request on that.
        self._favoured = None
        if held_bytes:
            self.memory.answering += held_bytes
        else:
            self._release(frame_bytes + LENGTH_SIZE)

    def request_done(self, held_bytes: int) -> None:
        """A request that kept its frame is answered."""
        self.memory.answering -= held_bytes
        self._release(held_bytes)

    def may_read(self, connection: KafkaProtocol) -> bool:
        """Whether memory allows this connection to read."""
        return not self.memory.full or connection is self._favoured

    def _release(self, count: int) -> None:
        memory = self.memory
        if memory.release(count):
            memory.start()
            self._favoured = None
            self._obey_all()
        elif memory.full:
            self._choose_favoured()

    def _choose_favoured(self) -> None:
        """Lets the unfinished request that lacks least read on, when only unfinished ones fill the memory."""
        favoured = self._favoured
        if favoured is not None:
            if favoured.machine.is_mid_request and not favoured.is_closing:
                return
            self._favoured = None
            favoured.obey()
        if not self.memory.needs_favour:
            return
        unfinished = [
            each for each in self._connections if each.machine.is_mid_request and not each.is_closing
        ]
        if unfinished:
            self._favoured = min(unfinished, key=lambda each: each.machine.missing_bytes)
            self._favoured.obey()

    def _obey_all(self) -> None:
        for connection in list(self._connections):
            connection.obey()

    # --- memory of responses ----------------------------------------------------------------------

    @property
    def fetch_bytes_max(self) -> int:
        """What a fetch may bring now: less and less while slow readers hold responses, never nothing."""
        if not self._unsent_bytes:
            return self.limits.fetch_bytes_max
        room = (self.limits.queued_response_bytes_max - self._unsent_bytes) // 4
        return min(max(room, FETCH_BYTES_MIN), self.limits.fetch_bytes_max)

    @property
    def unsent_bytes(self) -> int:
        """What slow readers have not taken of their responses."""
        return self._unsent_bytes

    def slow_reader(self, connection: KafkaProtocol) -> None:
        """A peer does not take its responses."""
        self._slow.add(connection)
        self._note_unsent(connection, connection.unsent_now())

    def caught_up(self, connection: KafkaProtocol) -> None:
        """A slow reader has taken its responses, or is gone."""
        self._slow.discard(connection)
        self._note_unsent(connection, 0)

    def _note_unsent(self, connection: KafkaProtocol, count: int) -> None:
        self._unsent_bytes += count - connection.unsent_bytes
        connection.unsent_bytes = count

    # --- once a second ----------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Ends connections that are idle, half closed for long, or in everybody's way."""
        self._sweeper = self.loop.call_later(SWEEP_MS / 1000, self._sweep)
        now_ms = self.now_ms = self.services.clock()
        limits = self.limits
        idle_before_ms = now_ms - limits.connection_idle_ms_max
        for connection in list(self._connections):
            machine = connection.machine
            if connection.is_closing:
                if now_ms - connection.closing_since_ms > limits.stalled_ms_max:
                    connection.abort()
            elif machine.eof:
                if now_ms - connection.ended_ms > limits.half_closed_ms_max:
                    connection.abort()
            elif connection.active_ms < idle_before_ms and not machine.inflight:
                # Idle is no fault: clients know connections.max.idle.ms and come back when they need to.
                connection.close()
        for connection in list(self._slow):
            self._end_if_stuck(connection)
        if self.memory.stalled_ms(now_ms) > limits.stalled_ms_max:
            self._end_hoarders()

    def _end_if_stuck(self, connection: KafkaProtocol) -> None:
        """A slow reader may take its time until responses fill their memory; then it must take something."""
        unsent = connection.unsent_now()
        if unsent < connection.unsent_bytes:
            connection.active_ms = self.now_ms
        self._note_unsent(connection, unsent)
        crowded = self._unsent_bytes > self.limits.queued_response_bytes_max
        if crowded and self.now_ms - connection.active_ms > self.limits.stalled_ms_max:
            connection.close_for(
                "it took none of its responses while slow readers filled the memory for them"
            )
            connection.abort()

    def _end_hoarders(self) -> None:
        """Nobody could read for long: those who hold most in requests that cannot start go, until others can read."""
        holders = sorted(self._connections, key=lambda each: each.machine.unstarted_bytes, reverse=True)
        for connection in holders:
            if not self.memory.full or not connection.machine.unstarted_bytes:
                return
            connection.close_for(
                f"its unfinished requests held {connection.machine.unstarted_bytes} bytes while memory for requests "
                f"({self.memory.bytes_max} bytes) was full for more than {self.limits.stalled_ms_max} ms"
            )
            self._release(connection.machine.forget())
            connection.abort()
