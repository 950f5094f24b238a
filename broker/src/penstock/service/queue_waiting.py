"""Leases that wait for messages: who they are, what they were granted, and how messages are shared out among them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from penstock.model.errors import PenstockError
from penstock.service.ports import TimerHandle
from penstock.service.queue_reading import Place


class Granted(NamedTuple):
    """Messages of one partition under one lease: (offset, how often it was delivered with this time), ascending."""

    place: Place
    lease_id: int
    until_ms: int
    messages: Sequence[tuple[int, int]]


class LeaseKind(NamedTuple):
    """Requests of one kind may share a grant."""

    duration_ms: int
    member: str


class WaitingLease:
    """One request for messages. It waits, then what it was granted is on its way to being committed, then `future` is done."""

    __slots__ = ("future", "kind", "messages_max", "timer", "tried", "wait_ms")

    def __init__(self, kind: LeaseKind, messages_max: int, wait_ms: int) -> None:
        self.kind = kind
        self.messages_max = messages_max
        self.wait_ms = wait_ms
        self.tried = False
        self.timer: TimerHandle | None = None
        self.future: asyncio.Future[list[Granted]] = asyncio.get_running_loop().create_future()

    def settle(self, hand: list[Granted], error: PenstockError | None) -> list[Granted]:
        """Its grants are committed, or not. What nobody waits for any more is returned, to be given back."""
        if error is not None:
            self.fail(error)
            return []
        self.stop_timer()
        if self.future.done():
            return hand
        self.future.set_result(hand)
        return []

    def end(self) -> None:
        """The wait is over and nothing came."""
        self.stop_timer()
        if not self.future.done():
            self.future.set_result([])

    def fail(self, error: PenstockError) -> None:
        """Nothing will come."""
        self.stop_timer()
        if not self.future.done():
            self.future.set_exception(error)

    def stop_timer(self) -> None:
        """The wait needs no end any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def shares(count: int, wanted: Sequence[int]) -> list[int]:
    """How many of `count` each gets: as even as can be, nobody more than is wanted, what is odd to the first ones."""
    given = [0] * len(wanted)
    hungry = [number for number, wants in enumerate(wanted) if wants > 0]
    while count > 0 and hungry:
        each, odd = divmod(count, len(hungry))
        for place, number in enumerate(hungry):
            more = min(each + (place < odd), wanted[number] - given[number])
            given[number] += more
            count -= more
        hungry = [number for number in hungry if given[number] < wanted[number]]
    return given


def dealt(grants: Sequence[Granted], counts: Sequence[int]) -> list[list[Granted]]:
    """The grants cut into as many messages for each as `counts` says, in order."""
    hands: list[list[Granted]] = []
    grant, at = 0, 0
    for count in counts:
        hand: list[Granted] = []
        while count > 0 and grant < len(grants):
            place, lease_id, until_ms, messages = grants[grant]
            some = messages[at : at + count]
            hand.append(Granted(place, lease_id, until_ms, some))
            count -= len(some)
            at += len(some)
            if at == len(messages):
                grant, at = grant + 1, 0
        hands.append(hand)
    return hands
