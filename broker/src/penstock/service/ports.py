"""What the services need from the rest of the broker, as small protocols that the runtime implements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from penstock.model.commands import Command

# --- for consumer groups ------------------------------------------------------------------------------


class CommandLog(Protocol):
    """Writing commands to the shard's log."""

    def propose(self, commands: Sequence[Command]) -> Awaitable[None]:
        """Appends and stages the commands before it returns, in the order of calls; the awaitable is done when all of
        them are committed and applied. Raises PenstockError, at the call or through the awaitable and within a time
        that the log names: NOT_ENOUGH_REPLICAS, NOT_COORDINATOR, REQUEST_TIMED_OUT, KAFKA_STORAGE_ERROR."""
        ...


class TimerHandle(Protocol):
    """A pending call."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time of the process: the wall clock for what is written, a monotonic one for what is waited for."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, never going back within the log."""
        ...

    def monotonic_ms(self) -> int: ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle: ...


class Positions(Protocol):
    """Where partitions begin and end, and who coordinates groups."""

    def partition_count(self, topic: str) -> int | None:
        """None when there is no such topic."""
        ...

    def log_start(self, topic: str, partition: int) -> int: ...

    def high_watermark(self, topic: str, partition: int) -> int: ...

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The first offset whose timestamp is at least the given one, -1 when there is none."""
        ...

    async def timestamp_at(self, topic: str, partition: int, offset: int) -> int:
        """The largest timestamp of the batch that holds a committed offset, -1 where it has none. Raises PenstockError."""
        ...

    def coordinator(self, listener: str, group: str) -> tuple[int, str, int] | None:
        """(node id, host, port) as clients of the listener reach the group's coordinator; None while unknown."""
        ...
