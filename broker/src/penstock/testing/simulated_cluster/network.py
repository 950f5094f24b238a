"""The network between the brokers: connections that carry bytes late, in pieces, in one direction only, or end.

A connection keeps its bytes in order, as TCP does, and is dialled, cut and lost as sockets are; what is on its way when
it ends may arrive or not. Beside that, single consensus messages can be lost, late, repeated and reordered: the
consensus promises to bear it.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from penstock.codec.peer import KIND_CONSENSUS, KIND_SEED, Buffer
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop

LATENCY_SECONDS_MAX = 0.003
# A sender whose bytes were not acknowledged for this long gives its connection up (TCP_USER_TIMEOUT).
UNACKNOWLEDGED_SECONDS_MAX = 5.0
# How late a message comes that is late, and a connection's end that nobody announces.
LATE_SECONDS_MAX = 1.0
_KIND_AT = 4
# How probable it is that a piece of a snapshot is the last thing that its connection carries, while snapshots are cut.
CUT_SNAPSHOT = 0.7


class Disorder(msgspec.Struct):
    """Chances that a consensus message is lost, repeated, or late."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0


class Network:
    """Nodes are brokers by ordinal. `watch` sees every frame that a broker sends, as it is sent."""

    def __init__(self, agenda: Agenda, chance: random.Random) -> None:
        self.agenda = agenda
        self.chance = chance
        self.disorder = Disorder()
        # (from, to) that nothing gets through.
        self.blocked: set[tuple[int, int]] = set()
        self.latency_seconds_max = LATENCY_SECONDS_MAX
        # Connections end while snapshots travel on them.
        self.snapshots_cut_until = 0.0
        # When a connection was ended last by nobody at its ends.
        self.last_cut = float("-inf")
        self.watch: Callable[[int, bytes], None] = lambda node, data: None
        self._servers: dict[int, tuple[VirtualLoop, Callable[[], asyncio.Protocol]]] = {}
        self._sockets: dict[Socket, None] = {}

    # --- faults ----------------------------------------------------------------------------------

    def block(self, sender: int, receiver: int) -> None:
        """Nothing gets from one to the other."""
        self.blocked.add((sender, receiver))

    def heal(self) -> None:
        """Everything gets through again, what was held back too."""
        self.blocked.clear()
        for socket in list(self._sockets):
            socket.release()

    def cut(self, first: int, second: int) -> None:
        """Ends every connection between two nodes."""
        self.last_cut = self.agenda.now
        for socket in list(self._sockets):
            if socket.node == first and socket.peer_node == second:
                socket.fail(errno.ECONNRESET)

    def snapshot_sent(self, socket: Socket) -> None:
        """A piece of a snapshot is about to leave: it, or what comes behind it, may not arrive."""
        if self.agenda.now < self.snapshots_cut_until and self.chance.random() < CUT_SNAPSHOT:
            self.agenda.after(self.latency(), self.cut, socket.node, socket.peer_node)

    def leave(self, node: int, *, announced: bool) -> None:
        """A process ended; `announced`: its kernel says so at once."""
        self._servers.pop(node, None)
        for socket in [socket for socket in self._sockets if socket.node == node]:
            socket.vanish(announced=announced)

    def latency(self) -> float:
        """Of one piece."""
        return self.chance.random() * self.latency_seconds_max

    # --- connections -----------------------------------------------------------------------------

    def listen(self, node: int, loop: VirtualLoop, factory: Callable[[], asyncio.Protocol]) -> None:
        """Connections to that node are accepted from now on."""
        self._servers[node] = (loop, factory)

    async def connect(
        self, node: int, loop: VirtualLoop, factory: Callable[[], asyncio.Protocol], peer: int
    ) -> tuple[Socket, asyncio.Protocol]:
        """A connection. Raises ConnectionRefusedError; waits for ever where nothing gets through."""
        future = loop.create_future()
        self.agenda.after(self.latency() * 2, self._answer_dial, node, peer, future)
        await future
        server = self._servers.get(peer)
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")
        near = Socket(self, node, peer, loop, factory())
        far = Socket(self, peer, node, server[0], server[1]())
        near.other, far.other = far, near
        for socket in (near, far):
            self._sockets[socket] = None
            socket.loop.call_soon(socket.protocol.connection_made, socket)
        return near, near.protocol

    def _answer_dial(self, node: int, peer: int, future: asyncio.Future[None]) -> None:
        through = not {(node, peer), (peer, node)} & self.blocked
        if through and not future.done():
            future.set_result(None)

    def forget(self, socket: Socket) -> None:
        """It is closed."""
        self._sockets.pop(socket, None)


class NodeSockets:
    """The network as one broker's loop sees it."""

    def __init__(self, network: Network, node: int) -> None:
        self._network = network
        self._node = node
        self.loop: VirtualLoop

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str
    ) -> tuple[Socket, asyncio.Protocol]:
        """See `Sockets.connect`: the host's name ends with the ordinal."""
        return await self._network.connect(self._node, self.loop, factory, int(host.rpartition("-")[2]))

    def listen(self, factory: Callable[[], asyncio.Protocol]) -> SimulatedServer:
        """See `Sockets.listen`."""
        self._network.listen(self._node, self.loop, factory)
        return SimulatedServer(self._node)


class SimulatedServer:
    """What `create_server` returns, as far as it is used."""

    def __init__(self, node: int) -> None:
        self.sockets = [self]
        self._node = node

    def getsockname(self) -> tuple[str, int]:
        """Host and port."""
        return f"broker-{self._node}", 9190

    def close(self) -> None:
        """The node leaves the network when its process ends."""


class Socket(asyncio.Transport):
    """One end of a connection."""

    def __init__(
        self, network: Network, node: int, peer_node: int, loop: VirtualLoop, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self.node, self.peer_node = node, peer_node
        self.loop, self.protocol = loop, protocol
        self.other: Socket
        self._network = network
        self._closed = False
        self._lost = False
        # What could not be sent yet, and since when the oldest waits.
        self._held: list[bytes] = []
        # Bytes arrive in order, so none before this.
        self._arrives_at = 0.0
        # Of what is on its way, only this much arrives: the connection ended.
        self._in_flight = 0
        self._in_flight_max: int | None = None

    # --- what asyncio's transports do ------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The socket, which takes options."""
        return self

    def setsockopt(self, *options: Any) -> None:
        """Is what this socket does anyway."""

    def get_write_buffer_size(self) -> int:
        """Bytes that wait."""
        return sum(map(len, self._held))

    def is_closing(self) -> bool:
        """Whether nothing more is sent."""
        return self._closed

    def write(self, data: Buffer) -> None:
        """See asyncio."""
        self.writelines([data])

    def writelines(self, list_of_data: Sequence[Buffer]) -> None:  # type: ignore[override]
        """Sends one frame."""
        if self._closed or self.loop.dead:
            return
        data = b"".join(list_of_data)
        self._network.watch(self.node, data)
        disorder, chance = self._network.disorder, self._network.chance
        if data[_KIND_AT] == KIND_SEED:
            self._network.snapshot_sent(self)
        if data[_KIND_AT] == KIND_CONSENSUS and (disorder.lost or disorder.late or disorder.repeated):
            if chance.random() < disorder.lost:
                return
            if chance.random() < disorder.late:
                self._network.agenda.after(chance.random() * LATE_SECONDS_MAX, self._send, data)
                return
            if chance.random() < disorder.repeated:
                self._network.agenda.after(chance.random() * LATE_SECONDS_MAX, self._send, data)
        self._send(data)

    def abort(self) -> None:
        """See asyncio: what waits is dropped, and the other side hears of it."""
        if not self._closed:
            self.fail(None)

    def close(self) -> None:
        """See asyncio."""
        if self._closed:
            return
        self._closed = True
        self._network.agenda.at(self._arrival(), self.other.hear_of_end, None)
        self._say_lost(None)

    # --- ends ------------------------------------------------------------------------------------

    def fail(self, number: int | None) -> None:
        """This end is closed at once; the other side hears of it, unless nothing gets there."""
        self._closed = True
        self._say_lost(None if number is None else OSError(number, "the connection ended"))
        self._tear()
        if (self.node, self.peer_node) not in self._network.blocked:
            self._network.agenda.at(self._arrival(), self.other.hear_of_end, errno.ECONNRESET)

    def vanish(self, *, announced: bool) -> None:
        """The process ended. Unannounced, the other side hears of it when it gets no acknowledgement."""
        self._closed = self._lost = True
        self._network.forget(self)
        self._tear()
        seconds = 0.0 if announced else self._network.chance.random() * UNACKNOWLEDGED_SECONDS_MAX
        self._network.agenda.at(self._arrival() + seconds, self.other.hear_of_end, errno.ECONNRESET)

    def hear_of_end(self, number: int | None) -> None:
        """The other end is gone."""
        self._closed = True
        self._say_lost(None if number is None else OSError(number, "the connection ended"))

    def _tear(self) -> None:
        """Of what is on its way, some arrives."""
        self._held.clear()
        self.other._in_flight_max = self._network.chance.randint(0, self.other._in_flight)

    def _say_lost(self, error: OSError | None) -> None:
        if not self._lost:
            self._lost = True
            self._network.forget(self)
            self.loop.call_soon(self.protocol.connection_lost, error)

    # --- bytes -----------------------------------------------------------------------------------

    def _arrival(self) -> float:
        self._arrives_at = max(self._arrives_at, self._network.agenda.now + self._network.latency())
        return self._arrives_at

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        if self._held or (self.node, self.peer_node) in self._network.blocked:
            if not self._held:
                self._network.agenda.after(UNACKNOWLEDGED_SECONDS_MAX, self._give_up, data)
            self._held.append(data)
            return
        self.other._in_flight += 1
        self._network.agenda.at(self._arrival(), self.other.arrive, data)

    def _give_up(self, oldest: bytes) -> None:
        if self._held and self._held[0] is oldest and not self._closed:
            self.fail(errno.ETIMEDOUT)

    def release(self) -> None:
        """What was held back goes on its way."""
        held, self._held = self._held, []
        for data in held:
            self._send(data)

    def arrive(self, data: bytes) -> None:
        """Bytes came."""
        self._in_flight -= 1
        if self._in_flight_max is not None:
            if self._in_flight_max == 0:
                return
            self._in_flight_max -= 1
        if self._lost or self.loop.dead:
            if (self.node, self.peer_node) not in self._network.blocked:
                # As a kernel answers what comes for a connection that it does not know.
                self._network.agenda.at(self._arrival(), self.other.hear_of_end, errno.ECONNRESET)
            return
        if len(data) > 1 and self._network.chance.random() < 0.1:
            at = self._network.chance.randrange(1, len(data))
            self.loop.call_soon(self.protocol.data_received, data[:at])
            data = data[at:]
        self.loop.call_soon(self.protocol.data_received, data)
