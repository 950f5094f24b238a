"""What leaves for each member: in order, old entries at a pace, the live stream at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from penstock.codec.peer import Buffer, FrameReader
from penstock.log.shipping import Shipment
from penstock.raft.messages import Append, Heartbeat, PeerMessage, Span
from penstock.replication.pace import BYTES_PER_SECOND_MIN, MIB
from penstock.replication.wire import decode_message
from penstock.runtime.shard import Shard
from penstock.runtime.shipping import Shipping
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop

BEHIND, LEVEL, LEADER = 2, 3, 1
LAST = 100
# A MiB at the pace, and a little.
TURN = MIB / BYTES_PER_SECOND_MIN + 0.001


class Log:
    """Entries of one byte each, all in memory."""

    def __init__(self) -> None:
        self.first_index, self.next_index = 1, LAST + 1

    def entries(self, first: int, last: int) -> Shipment:
        return Shipment(first, last, (), [bytes(last - first + 1)])


class Links:
    """Says when each message left."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.sent: list[tuple[float, PeerMessage]] = []

    def send(self, member: int, buffers: Sequence[Buffer]) -> bool:
        (frame,) = FrameReader(1 << 20).feed(b"".join(buffers))
        self.sent.append((self._agenda.now, decode_message(frame.meta, frame.data)))
        return True


class Sender:
    """A leader's shipping in virtual time; `in_sync` copies of three voters count."""

    def __init__(self, in_sync: int = 2) -> None:
        self.agenda = Agenda()
        self.log, self.links = Log(), Links(self.agenda)
        self.lost: list[int] = []
        configuration = SimpleNamespace(voters=(LEADER, LEVEL, 4))
        shard = SimpleNamespace(
            log=self.log,
            machines=SimpleNamespace(members=SimpleNamespace(configuration=configuration)),
            in_sync_count=in_sync,
            appended_bytes=0,
        )
        self.shipping = Shipping(cast(Shard, shard), self.links)
        self.loop = VirtualLoop(self.agenda, random.Random(0), on_error=_raise)  # type: ignore[abstract]

    def send(self, *messages: PeerMessage) -> None:
        with self.loop.running():
            self.shipping.send(messages, self.lost.append)

    def sent_to(self, member: int) -> list[tuple[float, PeerMessage]]:
        return [(when, message) for when, message in self.links.sent if message.to == member]


def _raise(error: BaseException) -> None:
    raise error


def append(to: int, first: int, last: int, size_bytes: int = MIB) -> Append:
    return Append(to, LEADER, 1, first - 1, 1, 0, Span(first, last, ((1, first),), size_bytes))


@pytest.fixture
def sender() -> Sender:
    return Sender()


def test_old_entries_leave_at_the_pace_and_what_follows_stays_behind_them(sender: Sender) -> None:
    sender.send(*(append(BEHIND, first, first + 9) for first in (1, 11, 21)), Heartbeat(BEHIND, LEADER, 1, 0))
    assert [message.previous_index for _, message in _appends(sender, BEHIND)] == [0]
    sender.agenda.run_until(1.0)
    left = _appends(sender, BEHIND)
    assert [message.previous_index for _, message in left] == [0, 10, 20]
    assert [when for when, _ in left] == pytest.approx([0.0, TURN, 2 * TURN], abs=0.003)
    assert isinstance(sender.sent_to(BEHIND)[-1][1], Heartbeat)
    assert not sender.lost


def test_the_live_stream_never_waits(sender: Sender) -> None:
    sender.send(append(BEHIND, 1, 10), append(BEHIND, 11, 20))
    sender.send(append(LEVEL, LAST, LAST), append(LEVEL, LAST, LAST))
    assert [when for when, _ in sender.sent_to(LEVEL)] == [0.0, 0.0]


def test_without_enough_copies_nothing_is_held_back() -> None:
    sender = Sender(in_sync=1)
    sender.send(*(append(BEHIND, first, first + 9) for first in (1, 11, 21)))
    assert [when for when, _ in sender.sent_to(BEHIND)] == [0.0] * 3


def test_what_is_gone_when_its_turn_comes_counts_as_lost(sender: Sender) -> None:
    sender.send(append(BEHIND, 1, 10), append(BEHIND, 11, 20), append(BEHIND, 21, 30))
    sender.log.first_index = 21
    sender.agenda.run_until(1.0)
    assert [message.previous_index for _, message in _appends(sender, BEHIND)] == [0, 20]
    assert sender.lost == [BEHIND]


def _appends(sender: Sender, member: int) -> list[tuple[float, Append]]:
    return [(when, message) for when, message in sender.sent_to(member) if isinstance(message, Append)]
