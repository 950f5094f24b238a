"""Questions from one broker of a shard to another, over their links: a follower asks the leader for its clients.

Each question has a number, a bound on its time, and an answer that travels on the other side's own connection. How many
may be open, and how long each may take, is named here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from penstock.codec.peer import KIND_ANSWER, KIND_ASK, Buffer, PeerFrame, encode_frame
from penstock.model.errors import ErrorCode, PenstockError
from penstock.session.peer_connection import Greeting

logger = logging.getLogger(__name__)

OPEN_MAX = 1_000
ANSWER_SECONDS_MAX = 30.0
# How long a leader that another one has replaced may still take to answer: it hangs, or is only finishing.
REPLACED_SECONDS = 1.0
REQUEST_BYTES_MAX = 16 * 1024 * 1024


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A question's description; its bytes follow as data. The fields behind `number` say on whose behalf it is asked."""

    number: int
    listener: str
    client_id: str
    client_host: str
    principal: str


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    number: int
    served: bool


class Sender(Protocol):
    """The links, as far as questions need them."""

    def send(self, member: int, buffers: Sequence[Buffer]) -> bool: ...


# Serves a question; calls back with the answer's bytes, or None where there is none.
Serve = Callable[[Ask, memoryview, Callable[[bytes | None], None]], None]


class PeerRequests:
    """Asks, and has others' questions served by `serve`."""

    def __init__(self, links: Sender) -> None:
        self._links = links
        self._number = 0
        self._open: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        self.serve: Serve = lambda ask, data, answer: answer(None)

    @property
    def open(self) -> int:
        """How many wait for an answer, `OPEN_MAX` at most."""
        return len(self._open)

    async def ask(
        self, member: int, data: bytes, *, listener: str, client_id: str, client_host: str, principal: str
    ) -> bytes:
        """The answer. Raises PenstockError (NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, MESSAGE_TOO_LARGE)."""
        if len(data) > REQUEST_BYTES_MAX:
            raise PenstockError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"a request of {len(data)} bytes cannot be passed on to the leader, {REQUEST_BYTES_MAX} can: connect to the"
                " leader or send less",
            )
        if len(self._open) >= OPEN_MAX:
            raise PenstockError(ErrorCode.REQUEST_TIMED_OUT, "too many requests wait for the shard's leader")
        self._number += 1
        number = self._number
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        meta = msgspec.msgpack.encode(Ask(number, listener, client_id, client_host, principal))
        if not self._links.send(member, encode_frame(KIND_ASK, meta, [data])):
            raise _leader_away()
        self._open[number] = (member, future)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await future
        except TimeoutError:
            raise PenstockError(
                ErrorCode.REQUEST_TIMED_OUT, "the shard's leader did not answer in time"
            ) from None
        finally:
            self._open.pop(number, None)

    def left(self, member: int) -> None:
        """A broker cannot be reached any more: what it was asked will not be answered."""
        for asked, future in list(self._open.values()):
            if asked == member and not future.done():
                future.set_exception(_leader_away())

    def led_by(self, leader: int) -> None:
        """Somebody leads: what others were asked when they did is not waited for much longer."""
        late = [future for asked, future in self._open.values() if asked != leader]
        if late:
            asyncio.get_running_loop().call_later(REPLACED_SECONDS, _give_up, late)

    def received(self, greeting: Greeting, frame: PeerFrame) -> None:
        """An ASK or ANSWER frame came in."""
        try:
            if frame.kind == KIND_ANSWER:
                self._answered(msgspec.msgpack.decode(frame.meta, type=_Answer), frame.data)
                return
            ask = msgspec.msgpack.decode(frame.meta, type=Ask)
        except msgspec.DecodeError as error:
            logger.warning("%s sent a question that cannot be read: %s", greeting.name, error)
            return

        def answer(data: bytes | None) -> None:
            meta = msgspec.msgpack.encode(_Answer(ask.number, data is not None))
            self._links.send(greeting.member, encode_frame(KIND_ANSWER, meta, [data] if data else ()))

        self.serve(ask, frame.data, answer)

    def _answered(self, answer: _Answer, data: memoryview) -> None:
        found = self._open.get(answer.number)
        if found is None or found[1].done():
            return
        if answer.served:
            found[1].set_result(bytes(data))
        else:
            found[1].set_exception(_leader_away())


def _give_up(late: Sequence[asyncio.Future[bytes]]) -> None:
    for future in late:
        if not future.done():
            future.set_exception(_leader_away())


def _leader_away() -> PenstockError:
    return PenstockError(
        ErrorCode.NOT_LEADER_OR_FOLLOWER, "the shard's leader cannot be reached from here: try again"
    )
