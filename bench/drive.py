"""Drives one broker through the cells: the same Java tools, the same settings, one core for each side.

The broker is pinned to one core and the load generator to another, so a CPU second of one never is the other's. Each
durability gets a broker of its own, on an empty folder, and a first load that is thrown away.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.measures import Busy, Measured, Start, read_consumed, read_produced
from bench.plan import cells
from penstock.testing.apache_kafka import ApacheKafka, java_command
from penstock.testing.process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.measures import Consumed, Produced
    from bench.plan import Cell, Durability, Effort

BROKER_CORE = 0
LOAD_CORE = 1
TOOL_TIMEOUT_S = 600
CALL_TIMEOUT_S = 30.0
# The load generator's Java: enough memory never to be what is measured.
LOAD_OPTIONS = ("-Xms512m", "-Xmx512m", "-XX:+UseSerialGC")
TOOLS = "org.apache.kafka.tools"


class ToolError(Exception):
    """A performance tool failed; the text quotes it."""


def pinned(core: int) -> list[str]:
    """The prefix that keeps a process on one core."""
    return ["taskset", "-c", str(core)]


def new_broker(peer: str, durability: Durability, folder: Path) -> BrokerProcess | ApacheKafka:
    """A broker of either make, not started."""
    if peer == "kafka":
        return ApacheKafka(folder, prefix=pinned(BROKER_CORE))
    return BrokerProcess(
        folder, config=durability.penstock_config, listeners=("kafka",), prefix=pinned(BROKER_CORE)
    )


def run_durability(
    peer: str, durability: Durability, effort: Effort, folder: Path, say: Callable[[str], None]
) -> tuple[Start, dict[Cell, Measured]]:
    """All cells of one durability with one broker, which is started for it and removed with its data."""
    broker = new_broker(peer, durability, folder)
    topic_config = durability.kafka_topic_config if peer == "kafka" else {}
    share = effort.synced_share if durability.name == "sync" else 1.0
    try:
        broker.start()
        start = Start(broker.ready_after_s or 0.0, broker.usage().resident_bytes)
        create_topic(broker.kafka, "warm-up", 4, topic_config)
        produce(broker.kafka, "warm-up", int(effort.bytes_warm * share) // 100, 100)
        measured = {}
        for number, cell in enumerate(cells(durability.name)):
            topic = f"cell-{number}"
            create_topic(broker.kafka, topic, cell.partitions, topic_config)
            measured[cell] = _run_cell(broker, cell, topic, effort, share)
            say(f"{peer} {durability.name}, {cell.words}: {_short(measured[cell])}")
            _delete(broker.kafka, topic)
        broker.terminate()
        return start, measured
    finally:
        broker.kill()
        shutil.rmtree(folder / "data", ignore_errors=True)


def _run_cell(
    broker: BrokerProcess | ApacheKafka, cell: Cell, topic: str, effort: Effort, share: float
) -> Measured:
    size = cell.record_size
    records = int(effort.bytes_total * share) // size
    warm = int(effort.bytes_warm * share) // size
    watch = _Watch(broker)
    produced = produce(broker.kafka, topic, records + warm, size, warm=warm)
    produce_cpu, produce_busy = watch.stop()
    per_second = effort.bytes_per_second // size
    paced_warm = per_second * effort.latency_seconds // 2
    paced_records = per_second * effort.latency_seconds + paced_warm
    paced = produce(
        broker.kafka,
        topic,
        paced_records,
        size,
        warm=paced_warm,
        per_second=per_second,
    )
    watch = _Watch(broker)
    consumed = _consume(broker.kafka, topic, records + warm + paced_records)
    consume_cpu, consume_busy = watch.stop()
    million = 1_000_000
    return Measured(
        produced,
        paced,
        consumed,
        produce_cpu / (records + warm) * million,
        consume_cpu / consumed.records * million,
        broker.usage().resident_bytes,
        produce_busy,
        consume_busy,
    )


class _Watch:
    """CPU of the broker, and of the tools that ended meanwhile, beside the time that went by."""

    def __init__(self, broker: BrokerProcess | ApacheKafka) -> None:
        self._broker = broker
        self._began = self._now()

    def stop(self) -> tuple[float, Busy]:
        """(the broker's CPU seconds, how busy the cores were)."""
        time_s, broker_s, load_s = (now - began for now, began in zip(self._now(), self._began, strict=True))
        return broker_s, Busy(load_s / time_s, broker_s / time_s)

    def _now(self) -> tuple[float, float, float]:
        tools = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.monotonic(), self._broker.usage().cpu_s, tools.ru_utime + tools.ru_stime


def produce(
    bootstrap: str, topic: str, records: int, size: int, *, warm: int = 0, per_second: int = -1
) -> Produced:
    """Runs the producer tool; `warm` records of them are not counted."""
    # acks=all and idempotence are the client's defaults; so are linger.ms=5 and 16 KiB batches.
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(records)]
    arguments += ["--record-size", str(size), "--throughput", str(per_second)]
    if warm:
        arguments += ["--warmup-records", str(warm)]
    return read_produced(_run(f"{TOOLS}.ProducerPerformance", arguments))


def _consume(bootstrap: str, topic: str, records: int) -> Consumed:
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(records)]
    return read_consumed(_run(f"{TOOLS}.ConsumerPerformance", [*arguments, "--timeout", "30000"]))


def _run(main_class: str, arguments: list[str]) -> str:
    command = [*pinned(LOAD_CORE), *java_command(main_class, *arguments, options=LOAD_OPTIONS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise ToolError(
            f"{main_class} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def create_topic(
    bootstrap: str, topic: str, partitions: int, config: dict[str, str], replicas: int = -1
) -> None:
    """Makes a topic and waits for it."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, replicas, config=config)])[topic].result(CALL_TIMEOUT_S)


def _delete(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(CALL_TIMEOUT_S)


def _short(measured: Measured) -> str:
    return (
        f"{measured.produced.records_per_second:,.0f}/s in, {measured.consumed.records_per_second:,.0f}/s out, "
        f"p99 {measured.paced.p99_ms:g} ms, {measured.produce_cpu_s:.2f} CPU s per million in"
    )
