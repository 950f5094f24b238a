"""What the Kafka listener has done, as plain integers that metrics read when asked. Counting costs an addition."""

from __future__ import annotations

from penstock.codec.kafka.apis import APIS
from penstock.telemetry.counters import ProtocolCounters
from penstock.telemetry.histograms import REQUEST_BOUNDS_S, Histogram

_KEYS = max(APIS) + 1


class KafkaCounters:
    """Totals since the start, but for `connections_open`. `requests[key]` counts started requests by API key,
    `refusals[key]` those that were answered with an error as a whole, `durations[key]` how long they took; `closed_for_cause` counts connections that the
    broker ended because of what the peer did, `connections_refused` those over `connections_max`."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "closed_for_cause",
        "connections_open",
        "connections_opened",
        "connections_refused",
        "durations",
        "internal_errors",
        "refusals",
        "requests",
    )

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.closed_for_cause = 0
        self.connections_open = 0
        self.connections_opened = 0
        self.connections_refused = 0
        self.internal_errors = 0
        self.requests = [0] * _KEYS
        self.refusals = [0] * _KEYS
        self.durations = [Histogram(REQUEST_BOUNDS_S) for _ in range(_KEYS)]

    def requests_by_api(self) -> dict[str, int]:
        """Started requests by Kafka's name of the API."""
        return {api.name: self.requests[key] for key, api in APIS.items()}

    def shared(self) -> ProtocolCounters:
        """The same numbers in the form that all protocols share; APIs that were never asked for are left out."""
        counters = ProtocolCounters()
        counters.connections = self.connections_opened
        counters.connections_open = self.connections_open
        counters.connections_refused = self.connections_refused
        counters.bytes_in = self.bytes_in
        counters.bytes_out = self.bytes_out
        counters.requests = {name: count for name, count in self.requests_by_api().items() if count}
        counters.durations = {
            api.name: self.durations[key] for key, api in APIS.items() if self.durations[key].count
        }
        refused = sum(self.refusals)
        counters.errors = {
            "refused": refused,
            "internal": self.internal_errors,
            "closed": self.closed_for_cause,
        }
        return counters
