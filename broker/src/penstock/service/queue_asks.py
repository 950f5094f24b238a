"""Requests about leased messages while they wait: which receipts, what is asked of them, what became of each.

Receipts of many requests about one partition are decided about together. The same receipt may come several times, from one
client or from two; each request is answered by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penstock.delivery.deciding import Receipt
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.queue_api import ReceiptResult

LOST = "The message is not held under this receipt: its lease ran out, or it was settled or given back before. Lease again."
UNKNOWN = "This is no receipt of a message of this group: send one as it came with the message."


class Verb(NamedTuple):
    """What is asked: `acknowledge`, `release`, `reject` (with `retry` and `delay_ms`) or `extend` (to `duration_ms`)."""

    name: str
    retry: bool = True
    delay_ms: int | None = None
    duration_ms: int = 0


class Ask:
    """One request; `future` is done when every receipt has its result. The same text twice is one receipt."""

    __slots__ = ("_left", "_results", "_texts", "future")

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._results: dict[str, ReceiptResult] = {}
        self._left = len(set(texts))
        self.future: asyncio.Future[list[ReceiptResult]] = asyncio.get_running_loop().create_future()

    def result(self, text: str, error: ErrorCode = ErrorCode.NONE, message: str = "") -> None:
        """What became of one receipt."""
        if text in self._results:
            return
        self._results[text] = ReceiptResult(text, error, message)
        self._left -= 1
        if self._left == 0 and not self.future.done():
            self.future.set_result([self._results[each] for each in self._texts])

    def fail(self, error: PenstockError) -> None:
        """The whole request fails; what became of its receipts is not known, or nothing."""
        if not self.future.done():
            self.future.set_exception(error)


class Asked(NamedTuple):
    """One receipt of one request."""

    ask: Ask
    text: str
    receipt: Receipt


class Asking:
    """What waits to be decided about: verb by verb, partition by partition."""

    def __init__(self) -> None:
        self._waiting: dict[Verb, dict[int, list[Asked]]] = {}

    def __len__(self) -> int:
        return sum(len(each) for by_key in self._waiting.values() for each in by_key.values())

    def add(self, verb: Verb, key: int, asked: Asked) -> None:
        """One more receipt of the partition with this key."""
        self._waiting.setdefault(verb, {}).setdefault(key, []).append(asked)

    def take(self) -> list[tuple[Verb, int, list[Asked]]]:
        """Everything, in the order in which it came."""
        waiting, self._waiting = self._waiting, {}
        return [(verb, key, asked) for verb, by_key in waiting.items() for key, asked in by_key.items()]


def receipts_of(asked: Iterable[Asked]) -> list[Receipt]:
    """Each once, by offset."""
    return sorted({each.receipt for each in asked})
