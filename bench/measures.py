"""What the Java performance tools print, as numbers; and the middle of several rounds."""

from __future__ import annotations

import re
import statistics
from typing import NamedTuple

_PRODUCED = re.compile(
    r"(?P<records>\d+) (?:steady state )?records sent, (?P<rate>[\d.]+) records/sec \((?P<mb>[\d.]+) MB/sec\), "
    r"(?P<mean>[\d.]+) ms avg latency, (?P<max>[\d.]+) ms max latency, "
    r"(?P<p50>\d+) ms 50th, (?P<p95>\d+) ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99\.9th"
)


class UnreadableError(Exception):
    """A tool printed something else than its result; the text quotes it."""


class Produced(NamedTuple):
    """Result of kafka-producer-perf-test; latencies in ms from handing a record over to its acknowledgement."""

    records: int
    records_per_second: float
    megabytes_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Busy(NamedTuple):
    """How busy each side's core was while a tool ran, its start included: 1.0 is all of it, and the limit."""

    load: float
    broker: float


class Consumed(NamedTuple):
    """Result of kafka-consumer-perf-test, without the time the group took to form."""

    records: int
    records_per_second: float
    megabytes_per_second: float


class Measured(NamedTuple):
    """One cell, one peer, one round. CPU is the broker's, in seconds for a million records; memory in bytes."""

    produced: Produced
    paced: Produced
    consumed: Consumed
    produce_cpu_s: float
    consume_cpu_s: float
    resident_bytes: int
    produce_busy: Busy
    consume_busy: Busy


class Start(NamedTuple):
    """One start of a broker on an empty folder: seconds until it answers, memory then."""

    ready_after_s: float
    resident_bytes: int


def read_produced(text: str) -> Produced:
    """The last summary that the tool printed: the steady state one where a warm-up was asked for."""
    lines = [match for line in text.splitlines() if (match := _PRODUCED.search(line))]
    if not lines:
        raise UnreadableError(f"kafka-producer-perf-test printed no summary:\n{text[-2000:]}")
    last = lines[-1]
    return Produced(
        int(last["records"]), *(float(last[name]) for name in ("rate", "mb", "p50", "p99", "p999"))
    )


def read_consumed(text: str) -> Consumed:
    """The one line of results under its header."""
    lines = [line.split(", ") for line in text.splitlines() if line.count(",") > 5]
    if len(lines) != 2:
        raise UnreadableError(f"kafka-consumer-perf-test printed no result:\n{text[-2000:]}")
    row = dict(zip(*lines, strict=True))
    return Consumed(
        int(row["data.consumed.in.nMsg"]), float(row["fetch.nMsg.sec"]), float(row["fetch.MB.sec"])
    )


def middle(values: list[float]) -> float:
    """The median, which one disturbed round does not move far."""
    return statistics.median(values)


def spread(values: list[float]) -> float:
    """How far apart lowest and highest are, as a share of the median; 0 for a single value."""
    centre = middle(values)
    return (max(values) - min(values)) / centre if centre else 0.0
