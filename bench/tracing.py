"""What following messages costs: `python -m bench.tracing [--rounds N] [--requests N] [--report FILE]`.

One broker for each way of tracing (off, twice; 1 % and 100 % of batches whose producers send no context; off, and 1 % where
producers send one with every message), all on one core; they take short turns of produce requests. What is told is the
processor time of the whole broker process for each request, what sends the spans included: 16 messages of 1 KiB, with the
settings that a broker has by itself. The two that are off say how exact that is: without many short turns, and with addresses
laid out by chance, they differ by more than tracing costs. Exits 1 when 1 % costs more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.drive import BROKER_CORE, CALL_TIMEOUT_S, LOAD_CORE, pinned
from bench.machine import business, machine
from bench.run import placed
from penstock.codec.records import Record, build_batch
from penstock.config.broker_config import parse_address
from penstock.testing.kafka_wire import KafkaWire, to_produce
from penstock.testing.otlp_receiver import OtlpReceiver
from penstock.testing.process import BrokerProcess

SHARE_MAX = 1.05
ROUNDS = 150
REQUESTS = 500
WARM_UP_REQUESTS = 3_000
MESSAGES_PER_BATCH = 16
VALUE = b"x" * 1024
TOPIC = "followed"
VERSION = 9
IN_FLIGHT = 4
ROUNDS_TOLD = 25
# What waits to be sent is sent within this time, and belongs to the figures.
SETTLE_S = 3.0
# Without it each process has its memory elsewhere, which alone moves the figures by some percent.
SAME_ADDRESSES = ("setarch", "-R")
SAME_HASHES = {"PYTHONHASHSEED": "0"}
# Of this many batches with a context, the producer has one followed.
CONTEXTS = 100
CONTEXT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-%02x"
BEGIN = "<!-- tracing: begin -->"
END = "<!-- tracing: end -->"


class Way(NamedTuple):
    """`sampling` is None where nothing is traced; `contexts`: producers send one with each batch."""

    words: str
    sampling: float | None
    contexts: bool = False


OFF = Way("off", None)
OFF_AGAIN = Way("off, another broker", None)
ONE = Way("1 %", 0.01)
ALL = Way("100 %", 1.0)
OFF_SENT = Way("off, messages with a context", None, contexts=True)
ONE_SENT = Way("1 %, messages with a context", 0.01, contexts=True)
WAYS = (OFF, OFF_AGAIN, ONE, ALL, OFF_SENT, ONE_SENT)
BASES = {OFF: OFF, OFF_AGAIN: OFF, ONE: OFF, ALL: OFF, OFF_SENT: OFF_SENT, ONE_SENT: OFF_SENT}
BOUNDED = (ONE, ONE_SENT)


class Target(NamedTuple):
    """A broker that runs, and the requests that it is sent over and over."""

    way: Way
    broker: BrokerProcess
    frames: Sequence[bytes]
    wire: KafkaWire


def main() -> int:
    """Runs; 0 when the bounds are kept."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that no broker is left behind.
    os.sched_setaffinity(0, {LOAD_CORE})
    os.environ |= SAME_HASHES
    where = f"{machine()}; {business()}"
    with tempfile.TemporaryDirectory(prefix="penstock-tracing-", dir=options.folder) as folder:
        costs = asyncio.run(measure(Path(folder), options.rounds, options.requests))
    report = write_report(costs, options.rounds, options.requests, where)
    if options.report:
        options.report.write_text(placed(report, options.report, BEGIN, END))
    print(report)
    return 0 if all(share(costs, way) <= SHARE_MAX for way in BOUNDED) else 1


async def measure(folder: Path, rounds: int, requests: int) -> dict[Way, float]:
    """Microseconds of processor time for each request, by way."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(OtlpReceiver())
        targets = []
        for number, way in enumerate(WAYS):
            broker = await asyncio.to_thread(_start, stack, folder / str(number), way, receiver.endpoint)
            wire = await KafkaWire.connect(parse_address(broker.kafka))
            stack.push_async_callback(wire.close)
            targets.append(
                Target(way, broker, [_frame(wire, way, number) for number in range(CONTEXTS)], wire)
            )
        for target in targets:
            await _turn(target, WARM_UP_REQUESTS)
        before = {target.way: cpu_seconds(target.broker.pid) for target in targets}
        for number in range(rounds):
            # Each is first as often as it is last.
            for target in targets if number % 2 else reversed(targets):
                await _turn(target, requests)
            receiver.spans.clear()
            if (number + 1) % ROUNDS_TOLD == 0 or number + 1 == rounds:
                print(f"bench: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        await asyncio.sleep(SETTLE_S)
        return {
            target.way: (cpu_seconds(target.broker.pid) - before[target.way]) / (rounds * requests) * 1e6
            for target in targets
        }


def cpu_seconds(pid: int) -> float:
    """Processor time that the process has used, to the nanosecond: short turns are less than some ticks of the clock that
    proc(5)'s `stat` counts in. Threads that ended are not counted; a broker's live as long as it does."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _start(stack: AsyncExitStack, folder: Path, way: Way, endpoint: str) -> BrokerProcess:
    config: dict[str, object] = {}
    if way.sampling is not None:
        config |= {"tracing.endpoint": endpoint, "tracing.sampling": way.sampling}
    folder.mkdir()
    prefix = [*pinned(BROKER_CORE), *SAME_ADDRESSES]
    broker = BrokerProcess(folder, config=config, listeners=("kafka",), prefix=prefix)
    stack.enter_context(broker)
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result(CALL_TIMEOUT_S)
    return broker


def _frame(wire: KafkaWire, way: Way, number: int) -> bytes:
    headers = (("traceparent", CONTEXT % (number == 0)),) if way.contexts else ()
    records = [
        Record(key=b"order-%d" % index, value=VALUE, timestamp=1, headers=headers)
        for index in range(MESSAGES_PER_BATCH)
    ]
    topics = to_produce(TOPIC, bytes(build_batch(records)))
    return wire.frame("Produce", VERSION, acks=-1, timeout_ms=10_000, topic_data=topics)


async def _turn(target: Target, requests: int) -> None:
    wire = target.wire
    for number in range(requests + IN_FLIGHT):
        if number < requests:
            await wire.send(target.frames[number % len(target.frames)])
        if number >= IN_FLIGHT:
            await wire.read_frame()


def share(costs: Mapping[Way, float], way: Way) -> float:
    """What this way costs, as a multiple of off with the same messages."""
    return costs[way] / costs[BASES[way]]


def write_report(costs: Mapping[Way, float], rounds: int, requests: int, where: str) -> str:
    """Markdown."""
    lines = [
        f"{rounds} turns of {requests:,} produce requests of {MESSAGES_PER_BATCH} messages of {len(VALUE)} B. {where}.\n",
        "| tracing | us of processor time a request | times off | bound |",
        "| --- | --: | --: | --: |",
    ]
    for way, found in costs.items():
        bound = f"{SHARE_MAX:.2f}" if way in BOUNDED else ""
        lines.append(f"| {way.words} | {found:.1f} | {share(costs, way):.3f} | {bound} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tracing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"a turn; default: {REQUESTS}")
    parser.add_argument("--report", type=Path, help="write the table into this file, between its marks")
    parser.add_argument(
        "--folder", type=Path, help="where brokers keep their data (default: the temporary folder)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
