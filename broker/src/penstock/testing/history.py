"""Writes down what clients asked a log and what they were answered, for a checker of linearizability.

Every operation is two lines of JSON: its invocation and its ending, each with the time of one monotonic clock. An ending
is `ok`, `failed` (for sure: it did nothing and never will) or `unknown` (it may have happened, may still happen, or may
never). An operation without an ending counts as unknown, so a history that was cut off is a history too. Who says
"failed" must know: a value that failed for sure and is read later is a violation.

A partition is a list: `append` puts one value at its end and is told the offset, `read` tells values from an offset on
together with the end, `end` tells the end alone. Values differ from each other.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

OPERATIONS_MAX = 1_000_000
"""A history that grows beyond it is a client that does not stop."""


class HistoryError(Exception):
    """The recorder was used wrongly: an operation that ended twice, or too many of them."""


class History:
    """One run's history, a line per event. Times are nanoseconds of `clock_ns`."""

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self.count = {"invoke": 0, "ok": 0, "failed": 0, "unknown": 0}
        self._clock_ns = clock_ns
        self._file = path.open("w")
        self._under_way: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes out what is buffered. Operations that are under way stay without an ending."""
        self._file.close()

    def append(self, client: int, partition: int, value: int) -> int:
        """`client` is about to append; returns the operation's number."""
        return self._invoke(client, partition, kind="append", value=value)

    def read(self, client: int, partition: int, offset: int) -> int:
        """`client` is about to read from `offset` on."""
        return self._invoke(client, partition, kind="read", **{"from": offset})

    def end(self, client: int, partition: int) -> int:
        """`client` is about to ask for the end."""
        return self._invoke(client, partition, kind="end")

    def appended(self, operation: int, offset: int) -> None:
        """The value is acknowledged at `offset`."""
        self._finish(operation, "ok", offset=offset)

    def was_read(self, operation: int, values: Sequence[int], end: int) -> None:
        """These values are in the partition from the asked offset on, and `end` is its end."""
        self._finish(operation, "ok", values=list(values), end=end)

    def was_beyond(self, operation: int) -> None:
        """The asked offset was refused because it lies behind the partition's end."""
        self._finish(operation, "ok", beyond=True)

    def had_end(self, operation: int, end: int) -> None:
        """The partition's end is `end`."""
        self._finish(operation, "ok", end=end)

    def failed(self, operation: int, reason: str) -> None:
        """It did nothing and never will."""
        self._finish(operation, "failed", reason=reason)

    def unknown(self, operation: int, reason: str) -> None:
        """Nobody can tell whether it happened, or will."""
        self._finish(operation, "unknown", reason=reason)

    def _invoke(self, client: int, partition: int, **asked: Any) -> int:
        operation = self.count["invoke"]
        if operation >= OPERATIONS_MAX:
            raise HistoryError(f"a history holds at most {OPERATIONS_MAX} operations")
        self._under_way.add(operation)
        self._write(operation, "invoke", client=client, partition=partition, **asked)
        return operation

    def _finish(self, operation: int, event: str, **answered: Any) -> None:
        if operation not in self._under_way:
            raise HistoryError(f"operation {operation} ends as {event} without being under way")
        self._under_way.remove(operation)
        self._write(operation, event, **answered)

    def _write(self, operation: int, event: str, **fields: Any) -> None:
        self.count[event] += 1
        line = {"id": operation, "event": event, "time_ns": self._clock_ns(), **fields}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
