"""The connections between the brokers of a shard.

Every broker dials every other one and sends on that connection alone; what comes in arrives on connections that the
others dialled. A broker that joined later than this one was started says in its greeting where it is reached. A connection that ends is dialled again, at growing intervals. Nothing here waits for a slow peer: when
too much is pending for one, what is sent to it is dropped and said so, and the consensus sends it again later.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import cast

from penstock.codec.peer import Buffer, PeerFrame
from penstock.session.peer_connection import Ended, Greeted, Greeting, Kinship, PeerConnection, Received
from penstock.telemetry.logs import fields

logger = logging.getLogger(__name__)

REDIAL_SECONDS_MIN = 0.05
REDIAL_SECONDS_MAX = 1.0
DIAL_SECONDS_MAX = 3.0
# How long a peer that was reached may take to say who it is. Its kernel may have answered for a process that is gone by
# now, and what told of its end may be lost: nothing is sent before the greeting, so nobody else would find out.
GREETING_SECONDS_MAX = 3.0
# Bytes that may wait for one peer's socket.
PENDING_BYTES_MAX = 64 * 1024 * 1024
# A peer that does not take what was sent for this long is cut off and dialled again.
UNANSWERED_MS_MAX = 5_000
ACCEPTED_MAX = 64
# Brokers whose addresses only their greetings told: no shard has more.
MET_MAX = 16

Address = tuple[str, int]


class _Link(asyncio.Protocol):
    """One socket, dialled or accepted."""

    def __init__(self, links: Links, expected: int | None) -> None:
        self._links = links
        self._expected = expected
        self._connection = PeerConnection(links.greeting(), expected)
        self.transport: asyncio.Transport | None = None
        self.greeting: Greeting | None = None
        self.ended = asyncio.Event()

    @property
    def dialled(self) -> bool:
        """Whether this side sends on it."""
        return self._expected is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS_MAX)
        self._links.opened(self)
        self.transport.writelines(self._connection.opening())

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        for event in self._connection.feed(data):
            match event:
                case Greeted(greeting):
                    self.greeting = greeting
                    self._links.greeted(self, greeting)
                case Received(frame):
                    assert self.greeting is not None
                    if self.dialled:
                        self._end("the broker that was dialled sent something")
                        return
                    self._links.received(self.greeting, frame)
                case Ended(sentence, output, kinship):
                    if output:
                        self.transport.writelines(output)
                    self._end(sentence)
                    if kinship is not Kinship.SAME:
                        self._links.on_estranged(self._expected, kinship, sentence)
                    return

    def _end(self, sentence: str) -> None:
        self._links.told(self, sentence)
        assert self.transport is not None
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()
        self._links.lost(self)


class Links:
    """Owns the sockets. `greeting` gives what this broker says of itself now. The callbacks run on the loop:
    `on_joined(greeting)` once something can be sent to a peer, `on_left(greeting)` once nothing can any more,
    `on_gone(greeting)` when a peer's own connection to here ended, `on_frame(greeting, frame)` for what it sent."""

    def __init__(
        self,
        peers: Mapping[int, Address],
        greeting: Callable[[], Greeting],
        *,
        on_joined: Callable[[Greeting], None],
        on_left: Callable[[Greeting], None],
        on_gone: Callable[[Greeting], None],
        on_frame: Callable[[Greeting, PeerFrame], None],
    ) -> None:
        self.peers = dict(peers)
        self.greeting = greeting
        self._on_joined, self._on_left = on_joined, on_left
        self._on_gone, self._on_frame = on_gone, on_frame
        # A broker, by its ordinal where it was dialled, holds another copy than the shard's; the sentence says which.
        self.on_estranged: Callable[[int | None, Kinship, str], None] = lambda ordinal, kinship, sentence: (
            None
        )
        self._by_member: dict[int, _Link] = {}
        # In order, so that they end in order.
        self._accepted: dict[_Link, None] = {}
        self._dialled: dict[_Link, None] = {}
        self._dialers: dict[int, asyncio.Task[None]] = {}
        self._dialling = False
        # Cancelled, and not at their end yet.
        self._ending: set[asyncio.Task[None]] = set()
        # Where brokers are reached that came in and are not among the peers.
        self._met: dict[int, Address] = {}
        self._server: asyncio.Server | None = None
        # The last sentence told about each peer, so that a peer that stays away is named once.
        self._said: dict[int, str] = {}
        # Why a dialled peer and this broker do not talk, by its ordinal.
        self.refused: dict[int, str] = {}

    # --- life ------------------------------------------------------------------------------------

    async def listen(self, host: str, port: int) -> Address:
        """Accepts other brokers; returns the address. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self, None), host, port)
        address: Address = self._server.sockets[0].getsockname()[:2]
        return address

    def dial(self) -> None:
        """Begins to connect to every peer."""
        self._dialling = True
        self.dial_only(self.peers.keys())

    def dial_only(self, ordinals: AbstractSet[int]) -> None:
        """Connects to these brokers, as far as it is known where they are, and seeks no others any more. A connection that
        there is stays until it ends by itself."""
        if not self._dialling:
            return
        for ordinal in self._met.keys() & ordinals:
            self.peers[ordinal] = self._met.pop(ordinal)
        for ordinal in sorted(self.peers.keys() & ordinals - self._dialers.keys()):
            task = asyncio.create_task(self._keep_dialling(ordinal, self.peers[ordinal]))
            self._dialers[ordinal] = task
        connected = {link.greeting.ordinal for link in self._dialled if link.greeting is not None}
        for ordinal in self._dialers.keys() - ordinals - connected:
            task = self._dialers.pop(ordinal)
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()
            self.refused.pop(ordinal, None)

    async def close(self) -> None:
        """Ends everything."""
        self._dialling = False
        for task in self._dialers.values():
            task.cancel()
        await asyncio.gather(*self._dialers.values(), *self._ending, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        links = [*self._dialled, *self._accepted]
        for link in links:
            if link.transport is not None:
                link.transport.abort()
        for link in links:
            await link.ended.wait()

    async def _keep_dialling(self, ordinal: int, address: Address) -> None:
        loop = asyncio.get_running_loop()
        wait = REDIAL_SECONDS_MIN
        while True:
            try:
                async with asyncio.timeout(DIAL_SECONDS_MAX):
                    _, link = await loop.create_connection(lambda: _Link(self, ordinal), *address)
            except (OSError, TimeoutError) as error:
                self._say(
                    ordinal, f"it cannot be reached at {address[0]}:{address[1]}: {error or 'no answer'}"
                )
            else:
                silence = loop.call_later(GREETING_SECONDS_MAX, self._end_if_silent, link)
                await link.ended.wait()
                silence.cancel()
                if link.greeting is not None:
                    wait = REDIAL_SECONDS_MIN
            await asyncio.sleep(wait)
            wait = min(wait * 2, REDIAL_SECONDS_MAX)

    def _end_if_silent(self, link: _Link) -> None:
        if link.greeting is None and link.transport is not None and not link.ended.is_set():
            self.told(link, "it did not say who it is in time")
            link.transport.abort()

    # --- sending ---------------------------------------------------------------------------------

    @property
    def pending_bytes(self) -> int:
        """What waits for the socket of the peer for which most does; `PENDING_BYTES_MAX`, or one frame more, at most."""
        transports = [link.transport for link in self._by_member.values() if link.transport is not None]
        return max((transport.get_write_buffer_size() for transport in transports), default=0)

    def members(self) -> list[Greeting]:
        """Who can be sent to now."""
        return [link.greeting for link in self._by_member.values() if link.greeting is not None]

    def send(
        self, member: int, buffers: Sequence[Buffer], pending_bytes_max: int = PENDING_BYTES_MAX
    ) -> bool:
        """Sends a frame; False when there is no connection or more than `pending_bytes_max` is pending on it, and nothing
        was sent."""
        link = self._by_member.get(member)
        if link is None or link.transport is None:
            return False
        if link.transport.get_write_buffer_size() > pending_bytes_max:
            return False
        link.transport.writelines(buffers)
        return True

    def cut(self, member: int) -> None:
        """Ends the connection to a member; it is dialled again."""
        link = self._by_member.get(member)
        if link is not None and link.transport is not None:
            link.transport.abort()

    def callers(self, heard: Callable[[int], bool]) -> set[int]:
        """By ordinal: brokers that are connected to here and whose member is `heard`."""
        greetings = [link.greeting for link in self._accepted if link.greeting is not None]
        return {greeting.ordinal for greeting in greetings if heard(greeting.member)}

    # --- what the sockets tell -------------------------------------------------------------------

    def opened(self, link: _Link) -> None:
        """A socket is connected."""
        if link.dialled:
            self._dialled[link] = None
            return
        self._accepted[link] = None
        if len(self._accepted) > ACCEPTED_MAX and link.transport is not None:
            logger.warning("a connection to the peer listener is closed: there are %d already", ACCEPTED_MAX)
            link.transport.abort()

    def greeted(self, link: _Link, greeting: Greeting) -> None:
        """The other side said who it is."""
        if not link.dialled:
            self._meet(greeting)
            return
        self._said.pop(greeting.ordinal, None)
        self.refused.pop(greeting.ordinal, None)
        self._by_member[greeting.member] = link
        logger.info("connected to broker", extra=fields(peer=greeting.name, ordinal=greeting.ordinal))
        self._on_joined(greeting)

    def _meet(self, greeting: Greeting) -> None:
        """One came in that this broker may not know how to reach."""
        host, _, port = greeting.peer.rpartition(":")
        if greeting.ordinal not in self.peers and host and port.isdecimal() and len(self._met) < MET_MAX:
            self._met[greeting.ordinal] = (host, int(port))

    def received(self, greeting: Greeting, frame: PeerFrame) -> None:
        """A frame came in."""
        self._on_frame(greeting, frame)

    def told(self, link: _Link, sentence: str) -> None:
        """A connection ends for a reason worth a line."""
        if link._expected is not None:
            self.refused[link._expected] = sentence
        ordinal = link.greeting.ordinal if link.greeting is not None else link._expected
        if ordinal is None:
            logger.warning("a connection to the peer listener is closed: %s", sentence)
        else:
            self._say(ordinal, sentence)

    def lost(self, link: _Link) -> None:
        """A socket is closed."""
        self._dialled.pop(link, None)
        self._accepted.pop(link, None)
        greeting = link.greeting
        if greeting is None:
            return
        if not link.dialled:
            self._on_gone(greeting)
        elif self._by_member.get(greeting.member) is link:
            del self._by_member[greeting.member]
            self._say(greeting.ordinal, f"the connection to {greeting.name} ended")
            self._on_left(greeting)

    def _say(self, ordinal: int, sentence: str) -> None:
        if self._said.get(ordinal) != sentence:
            self._said[ordinal] = sentence
            logger.warning("broker %d: %s", ordinal, sentence)
