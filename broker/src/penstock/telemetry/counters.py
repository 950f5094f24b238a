"""What the broker counts while it works: plain integers that the event loop raises, and `/metrics` reads.

Counting must cost nothing on the hot path, so these are attributes and small dicts without locks or labels; one
event loop owns them all. The keys of the dicts come from code (names of protocols, operations and error codes), never
from a client, so their number is bounded. Exposition is left to `metrics`, which is handed a `copy` made on the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.telemetry.histograms import DELAY_BOUNDS_S, REQUEST_BOUNDS_S, Histogram
from penstock.telemetry.queue_counters import QueueCounters
from penstock.telemetry.trace_counters import TraceCounters

if TYPE_CHECKING:
    from collections.abc import Callable


class ProtocolCounters:
    """What one protocol's listeners did. Bytes are payload bytes as the protocol counts them."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "connections",
        "connections_open",
        "connections_refused",
        "durations",
        "errors",
        "open_sources",
        "requests",
        "requests_forwarded",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.connections_open = 0
        self.connections_refused = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.requests: dict[str, int] = {}
        self.requests_forwarded = 0
        self.errors: dict[str, int] = {}
        self.durations: dict[str, Histogram] = {}
        # A listener whose library counts its connections is asked when the numbers are read, instead of counting twice.
        self.open_sources: list[Callable[[], int]] = []

    def request(self, api: str) -> None:
        """One more request of an operation."""
        self.requests[api] = self.requests.get(api, 0) + 1

    def error(self, code: str) -> None:
        """One more answer with this error code."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def took(self, api: str, seconds: float) -> None:
        """A request of an operation is answered."""
        duration = self.durations.get(api)
        if duration is None:
            duration = self.durations[api] = Histogram(REQUEST_BOUNDS_S)
        duration.observe(seconds)

    def add(self, other: ProtocolCounters) -> None:
        """Adds another listener's numbers, as they are now."""
        self.connections += other.connections
        self.connections_open += other.connections_open + sum(source() for source in other.open_sources)
        self.connections_refused += other.connections_refused
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.requests_forwarded += other.requests_forwarded
        for api, count in other.requests.items():
            self.requests[api] = self.requests.get(api, 0) + count
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        for api, duration in other.durations.items():
            self.durations.setdefault(api, Histogram(REQUEST_BOUNDS_S)).add(duration)

    def copy(self) -> ProtocolCounters:
        """The numbers as they are now."""
        copied = ProtocolCounters()
        copied.add(self)
        return copied


class Counters:
    """All counters of one broker process. `fetches_waiting` goes up and down; `produce_refused` is by error code;
    `loop_delays` are those of the loop's pulse."""

    __slots__ = (
        "_protocols",
        "_watched",
        "batches_in",
        "fetches",
        "fetches_waiting",
        "forked_entries",
        "forked_messages",
        "fsync_seconds",
        "fsyncs",
        "leaderships",
        "log_append_bytes",
        "log_appends",
        "loop_delays",
        "loop_stall_seconds_max",
        "messages_in",
        "produce_refused",
        "queues",
        "state_disputes",
        "state_hashes",
        "tracing",
    )

    def __init__(self) -> None:
        self._protocols: dict[str, ProtocolCounters] = {}
        self._watched: list[tuple[str, Callable[[], ProtocolCounters]]] = []
        self.messages_in = 0
        self.batches_in = 0
        self.fetches = 0
        self.fetches_waiting = 0
        self.leaderships = 0
        self.produce_refused: dict[str, int] = {}
        self.log_appends = 0
        self.log_append_bytes = 0
        self.fsyncs = 0
        self.fsync_seconds = 0.0
        self.loop_stall_seconds_max = 0.0
        self.loop_delays = Histogram(DELAY_BOUNDS_S)
        self.state_hashes = 0
        self.state_disputes = 0
        self.forked_entries = 0
        self.forked_messages = 0
        self.tracing = TraceCounters()
        self.queues = QueueCounters()

    def protocol(self, name: str) -> ProtocolCounters:
        """The counters of one protocol (`kafka`, `http`, `admin`); listeners of one protocol share them."""
        return self._protocols.setdefault(name, ProtocolCounters())

    def refused(self, code: str) -> None:
        """One more produce to a partition that was not acknowledged, for this reason."""
        self.produce_refused[code] = self.produce_refused.get(code, 0) + 1

    def loop_was_late(self, seconds: float) -> None:
        """The loop's pulse came so much later than it was due."""
        self.loop_delays.observe(seconds)
        if seconds > self.loop_stall_seconds_max:
            self.loop_stall_seconds_max = seconds

    def watch(self, name: str, source: Callable[[], ProtocolCounters]) -> None:
        """Adds the numbers of a listener that counts in a way of its own, asked for when `copy` is made."""
        self._watched.append((name, source))

    @property
    def protocols(self) -> dict[str, ProtocolCounters]:
        """Protocol name to its counters."""
        return self._protocols

    def copy(self) -> Counters:
        """The numbers as they are now, for a reader in another thread."""
        copied = Counters()
        for name in self.__slots__:
            if not name.startswith("_"):
                value = getattr(self, name)
                setattr(copied, name, value.copy() if isinstance(value, dict | Histogram) else value)
        for name, counters in self._protocols.items():
            copied.protocol(name).add(counters)
        for name, source in self._watched:
            copied.protocol(name).add(source())
        return copied
