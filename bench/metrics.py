"""What a scrape costs: `python -m bench.metrics [--partitions N] [--groups N] [--scrapes N] [--report FILE]`.

A broker with 10,000 partitions, and groups that have not read everything in them, is scraped at `/metrics` again and again.
Two things are taken: how long a scrape takes, and how long the event loop does nothing else meanwhile, as the broker itself
measures it (`penstock_loop_delay_seconds`) and as a client's round trips show it, beside the same without scrapes. The
broker was started anew before, so that indexes of old messages have to be read from disk. Exits 1 when a scrape takes a second or more, or a stall or a round trip 50 ms or more.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from bench.drive import BROKER_CORE, CALL_TIMEOUT_S, LOAD_CORE, pinned
from bench.machine import business, machine
from bench.run import placed
from bench.steady_load import rank
from penstock.testing.process import BrokerProcess

SCRAPE_S_MAX = 1.0
STALL_S_MAX = 0.05
PARTITIONS = 10_000
PARTITIONS_PER_TOPIC = 10
GROUPS = 1_000
SCRAPES = 30
ROUNDS = 3
VALUE = b"x" * 100
# Several segments, so that most of the index is in files after the start.
CONFIG = {"log.segment.bytes": 4 << 20, "flush.policy": "async", "auto.create.topics.enable": False}
CREATED_AT_ONCE = 100
SETTLE_S = 3.0
PAUSE_S = 0.1
ROUND_TRIP_PAUSE_S = 0.001
SCRAPE_TIMEOUT_S = 60.0
# ApiVersions version 0, from nobody: length, API key, version, correlation id, no client id.
ASK = struct.pack(">ihhih", 10, 18, 0, 1, -1)
BEGIN = "<!-- metrics: begin -->"
END = "<!-- metrics: end -->"


class Effort(NamedTuple):
    """How much there is to be shown, and how often it is."""

    partitions: int
    groups: int
    scrapes: int


class Figures(NamedTuple):
    """All times in seconds. `stall_s` is the loop's longest while it was scraped, as far as the broker tells: at most that."""

    scrapes_s: list[float]
    round_trips_s: list[float]
    quiet_round_trips_s: list[float]
    stall_s: float
    answer_bytes: int

    @property
    def is_good(self) -> bool:
        """Whether every bound is kept."""
        longest = max(self.stall_s, *self.round_trips_s)
        return max(self.scrapes_s) < SCRAPE_S_MAX and longest < STALL_S_MAX


def main() -> int:
    """Runs; 0 when the bounds are kept."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that no broker is left behind.
    # The thread that takes round trips shares this process with the one that scrapes.
    sys.setswitchinterval(0.0005)
    os.sched_setaffinity(0, {LOAD_CORE})
    busy = business()
    effort = Effort(options.partitions, options.groups, options.scrapes)
    with (
        tempfile.TemporaryDirectory(prefix="penstock-metrics-", dir=options.folder) as folder,
        BrokerProcess(
            Path(folder), config=CONFIG, listeners=("kafka", "admin"), prefix=pinned(BROKER_CORE)
        ) as broker,
    ):
        prepare(broker, effort)
        broker.restart()
        figures = measure(broker, effort)
    report = write_report(figures, effort, f"{machine()}; {busy}")
    if options.report:
        options.report.write_text(placed(report, options.report, BEGIN, END))
    print(report)
    return 0 if figures.is_good else 1


def prepare(broker: BrokerProcess, effort: Effort) -> None:
    """Topics, messages in each partition, and groups that have read none of them; one group has a position in each."""
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    names = [f"topic-{number:05}" for number in range(effort.partitions // PARTITIONS_PER_TOPIC)]
    for first in range(0, len(names), CREATED_AT_ONCE):
        asked = [NewTopic(name, PARTITIONS_PER_TOPIC) for name in names[first : first + CREATED_AT_ONCE]]
        for created in admin.create_topics(asked).values():
            created.result(CALL_TIMEOUT_S)
    _say(f"{len(names)} topics")
    producer = Producer({"bootstrap.servers": broker.kafka, "linger.ms": 50})
    places = [(name, number) for name in names for number in range(PARTITIONS_PER_TOPIC)]
    for _ in range(ROUNDS):
        for name, number in places:
            producer.produce(name, VALUE, partition=number)
            producer.poll(0)
        left = producer.flush(CALL_TIMEOUT_S)
        if left:
            raise TimeoutError(f"{left} messages were not acknowledged within {CALL_TIMEOUT_S:.0f} s")
    for group, positions in _groups(names, effort.groups):
        asked = [TopicPartition(name, number, 0) for name, number in positions]
        future = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, asked)])
        future[group].result(CALL_TIMEOUT_S)
    _say(f"{ROUNDS * len(places)} messages and {effort.groups + 1} groups")


def _groups(names: list[str], count: int) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    yield "all-of-them", [(name, number) for name in names for number in range(PARTITIONS_PER_TOPIC)]
    for group in range(count):
        name = names[group % len(names)]
        yield f"group-{group:05}", [(name, number) for number in range(PARTITIONS_PER_TOPIC)]


def measure(broker: BrokerProcess, effort: Effort) -> Figures:
    """Round trips without scrapes for as long as with them, and then both."""
    host, _, port = broker.kafka.rpartition(":")
    time.sleep(SETTLE_S)
    with RoundTrips(host, int(port)) as quiet:
        time.sleep(SETTLE_S)
    before = Loop.of(scrape(broker))
    scrapes, answer = [], b""
    with RoundTrips(host, int(port)) as meanwhile:
        for _ in range(effort.scrapes):
            began = time.perf_counter()
            answer = scrape(broker)
            scrapes.append(time.perf_counter() - began)
            time.sleep(PAUSE_S)
    # One more, which shows what the last one cost.
    last = scrape(broker)
    _check(last, effort)
    stall = Loop.of(last).longest_since(before)
    return Figures(scrapes, meanwhile.seconds, quiet.seconds, stall, len(answer))


def _check(text: bytes, effort: Effort) -> None:
    """Raises ValueError unless the broker showed what it was filled with."""
    shown = {sample.name: sample.value for sample in samples_of(text) if not sample.labels}
    lags = {
        sample.labels["group"]: sample.value
        for sample in samples_of(text)
        if sample.name == "penstock_group_lag"
    }
    topics = effort.partitions // PARTITIONS_PER_TOPIC
    if (shown["penstock_topics"], lags["all-of-them"]) != (topics, ROUNDS * effort.partitions):
        raise ValueError(f"the broker shows {shown['penstock_topics']:.0f} topics and lags {lags}")


class Loop(NamedTuple):
    """The broker's own account: its longest stall since the start, and how many pulses were late by at most so many seconds."""

    longest_s: float
    late: dict[float, float]

    @classmethod
    def of(cls, text: bytes) -> Loop:
        """As a scrape shows it."""
        found = samples_of(text)
        (longest,) = (sample.value for sample in found if sample.name == "penstock_loop_stall_seconds_max")
        late = {
            float(sample.labels["le"]): sample.value
            for sample in found
            if sample.name == "penstock_loop_delay_seconds_bucket"
        }
        return cls(longest, late)

    def longest_since(self, before: Loop) -> float:
        """Seconds: exactly where it is a record, else the bound of the latest pulse's bucket."""
        if self.longest_s > before.longest_s:
            return self.longest_s
        pulses = {bound: count - before.late[bound] for bound, count in self.late.items()}
        return min(bound for bound, count in pulses.items() if count == pulses[math.inf])


def scrape(broker: BrokerProcess) -> bytes:
    """The whole answer."""
    with urllib.request.urlopen(f"{broker.admin}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
        return bytes(answer.read())


def samples_of(text: bytes) -> list[Sample]:
    """Every series."""
    return [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]


class RoundTrips:
    """Asks a broker again and again, on one connection in a thread, and keeps how long each answer took."""

    def __init__(self, host: str, port: int) -> None:
        self.seconds: list[float] = []
        self._socket = socket.create_connection((host, port), timeout=SCRAPE_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._over.wait(ROUND_TRIP_PAUSE_S):
            began = time.perf_counter()
            self._socket.sendall(ASK)
            (length,) = struct.unpack(">i", self._receive(4))
            self._receive(length)
            self.seconds.append(time.perf_counter() - began)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the broker closed the connection")
            data += more
        return data


def write_report(figures: Figures, effort: Effort, where: str) -> str:
    """Markdown."""
    positions = effort.partitions + effort.groups * PARTITIONS_PER_TOPIC
    lines = [
        f"{effort.partitions:,} partitions in {effort.partitions // PARTITIONS_PER_TOPIC:,} topics, {effort.groups + 1:,} groups"
        f" with {positions:,} positions, {len(figures.scrapes_s)} scrapes of {figures.answer_bytes / 1024:.0f} KiB. {where}.\n",
        "| | p50 ms | p99 ms | highest ms | bound ms |",
        "| --- | --: | --: | --: | --: |",
        _row("a scrape of `/metrics`", figures.scrapes_s, SCRAPE_S_MAX),
        _row("a client's round trip meanwhile", figures.round_trips_s, STALL_S_MAX),
        _row("a client's round trip without scrapes", figures.quiet_round_trips_s, None),
        f"| the event loop's longest stall, at most | | | {figures.stall_s * 1000:.1f} | {STALL_S_MAX * 1000:.0f} |",
    ]
    return "\n".join(lines)


def _row(words: str, seconds: list[float], bound_s: float | None) -> str:
    ordered = sorted(seconds)
    bound = "" if bound_s is None else f"{bound_s * 1000:.0f}"
    return (
        f"| {words} | {statistics.median(ordered) * 1000:.1f} | {rank(ordered, 0.99) * 1000:.1f} |"
        f" {ordered[-1] * 1000:.1f} | {bound} |"
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.metrics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--partitions", type=int, default=PARTITIONS, help=f"default: {PARTITIONS}")
    parser.add_argument("--groups", type=int, default=GROUPS, help=f"default: {GROUPS}")
    parser.add_argument("--scrapes", type=int, default=SCRAPES, help=f"default: {SCRAPES}")
    parser.add_argument("--report", type=Path, help="write the table into this file, between its marks")
    parser.add_argument(
        "--folder", type=Path, help="where the broker keeps its data (default: the temporary folder)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
