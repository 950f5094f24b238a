"""What taking in an empty follower costs: `python -m bench.seeding [--gib N] [--runs N] [--report FILE]`.

Three brokers whose log holds 1 GiB take a fixed load at acks=all. One follower is killed, its folder emptied, and it is
started again: it joins as another member, is sent the state and the log while the load goes on, and counts as a voter
in the end. The time of each acknowledgement meanwhile is compared with the time before. All brokers share one core, the
load has the other: whatever the new member costs, the leader and the other follower pay with it.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import AdminClient

from bench.drive import BROKER_CORE, CALL_TIMEOUT_S, LOAD_CORE, create_topic, pinned
from bench.run import placed
from bench.steady_load import MESSAGE_BYTES, Latencies, SteadyLoad, fill, latencies
from penstock.testing.shard_processes import ShardProcesses

RUNS = 3
RATIO_MAX = 3.0
TOPICS = 4
PARTITIONS = 6
LIVE_TOPIC = "live"
# Dropped before the runs, so that the log no longer begins with its first entry, and a member needs the state first.
DROPPED_TOPIC = "dropped"
SEGMENT_BYTES = 64 * 1024 * 1024
MESSAGES_PER_SECOND = 1000
BASELINE_S = 20.0
SETTLE_S = 3.0
SEEDING_S_MAX = 300.0
# Asking costs the brokers as well.
POLL_INTERVAL_S = 0.25
BEGIN = "<!-- seeding: begin -->"
END = "<!-- seeding: end -->"


class Run(NamedTuple):
    """One follower taken in: latencies before and meanwhile, and how many bytes it got in how long."""

    before: Latencies
    meanwhile: Latencies
    size_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        """How many times as long the slowest hundredth took."""
        return self.meanwhile.p99_ms / self.before.p99_ms


class Effort(NamedTuple):
    """How much is done: bytes in the log, runs, seconds of load before each."""

    size_bytes: int
    runs: int
    baseline_s: float
    segment_bytes: int = SEGMENT_BYTES


def main() -> int:
    """Runs; 0 when the median of the ratios is at most three, 1 when it is more."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that no broker is left behind.
    with tempfile.TemporaryDirectory(prefix="penstock-seeding-", dir=options.folder) as folder:
        effort = Effort(int(options.gib * (1 << 30)), options.runs, options.baseline, options.segment_bytes)
        runs = measure(Path(folder), effort, options.flush)
    report = write_report(runs, options.flush)
    if options.report:
        options.report.write_text(placed(report, options.report, BEGIN, END))
    print(report)
    return 1 if statistics.median(run.ratio for run in runs) > RATIO_MAX else 0


def measure(folder: Path, effort: Effort, flush: str) -> list[Run]:
    """All runs, on three brokers made for them."""
    # The load's threads are made by this one, and stay where it is.
    os.sched_setaffinity(0, {LOAD_CORE})
    config = {
        "min.insync.replicas": 2,
        "flush.policy": flush,
        "log.segment.bytes": effort.segment_bytes,
        "log.retention.check.interval.ms": 1000,
    }
    with ShardProcesses(folder, config=config, prefix=pinned(BROKER_CORE)) as shard:
        _prepare(shard, effort)
        runs = []
        for number in range(effort.runs):
            runs.append(_run(shard, effort))
            _say(f"run {number + 1}: {_words(runs[-1])}")
        return runs


def _prepare(shard: ShardProcesses, effort: Effort) -> None:
    """Fills the log, whose first segments are gone then."""
    create_topic(shard.kafka, DROPPED_TOPIC, 1, {})
    fill(shard.kafka, DROPPED_TOPIC, 2 * effort.segment_bytes)
    admin = AdminClient({"bootstrap.servers": shard.kafka})
    admin.delete_topics([DROPPED_TOPIC])[DROPPED_TOPIC].result(CALL_TIMEOUT_S)
    create_topic(shard.kafka, LIVE_TOPIC, PARTITIONS, {})
    began = time.monotonic()
    for number in range(TOPICS):
        topic = f"kept-{number}"
        create_topic(shard.kafka, topic, PARTITIONS, {"retention.ms": "-1"})
        fill(shard.kafka, topic, effort.size_bytes // TOPICS)
    _say(f"the log is filled, {effort.size_bytes / (time.monotonic() - began) / 1e6:.1f} MB/s")
    for ordinal in range(shard.replicas):
        shard.wait_until(
            lambda ordinal=ordinal: _log(shard, ordinal)["firstIndex"] > 1,  # type: ignore[misc]
            f"segment dropped by broker {ordinal}",
        )


def _run(shard: ShardProcesses, effort: Effort) -> Run:
    leader, gone = shard.wait_whole(), shard.followers()[0]
    load = SteadyLoad(shard.kafka, LIVE_TOPIC, MESSAGES_PER_SECOND)
    try:
        time.sleep(SETTLE_S)
        before_began = time.monotonic()
        time.sleep(effort.baseline_s)
        before_ended = time.monotonic()
        shard.kill(gone)
        shard.empty(gone)
        _wait_in_sync(shard, leader, gone, wanted=False)
        time.sleep(SETTLE_S)
        size_bytes = _log(shard, leader)["bytes"]
        began = time.monotonic()
        shard.brokers[gone].launch_only()
        _wait_in_sync(shard, leader, gone, wanted=True)
        ended = time.monotonic()
    finally:
        load.stop()
    shard.wait_whole()
    shard.agreed()
    return Run(
        latencies(load.acknowledged, before_began, before_ended),
        latencies(load.acknowledged, began, ended),
        size_bytes,
        ended - began,
    )


def _wait_in_sync(shard: ShardProcesses, leader: int, ordinal: int, *, wanted: bool) -> None:
    deadline = time.monotonic() + SEEDING_S_MAX
    while (ordinal in shard.view(leader).in_sync) != wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"broker {ordinal} was not taken in within {SEEDING_S_MAX:.0f} s:\n{shard.tails()}"
            )
        time.sleep(POLL_INTERVAL_S)


def _log(shard: ShardProcesses, ordinal: int) -> dict[str, int]:
    found: dict[str, int] = shard.ask(ordinal, "/v1/broker")["log"]
    return found


def write_report(runs: list[Run], flush: str) -> str:
    """Markdown: medians of the runs."""
    size, seconds = _median([run.size_bytes for run in runs]), _median([run.seconds for run in runs])
    load = MESSAGES_PER_SECOND * MESSAGE_BYTES / 1e6
    lines = [
        f"{len(runs)} runs, medians; `flush: {flush}`; {load:.1f} MB/s in messages of 1 KiB. An empty follower got"
        f" {size / (1 << 30):.2f} GiB and was a voter {seconds:.1f} s after its start:"
        f" {size / seconds / 1e6:.0f} MB/s.\n",
        "| acknowledgements, acks=all | before | meanwhile | ratio |",
        "| --- | --: | --: | --: |",
    ]
    for words, field in (("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), ("highest ms", "highest_ms")):
        before = _median([getattr(run.before, field) for run in runs])
        meanwhile = _median([getattr(run.meanwhile, field) for run in runs])
        ratio = _median([getattr(run.meanwhile, field) / getattr(run.before, field) for run in runs])
        lines.append(f"| {words} | {before:.1f} | {meanwhile:.1f} | **{ratio:.2f}** |")
    return "\n".join(lines)


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _words(run: Run) -> str:
    return (
        f"{run.size_bytes / run.seconds / 1e6:.0f} MB/s, {run.seconds:.1f} s; p50 {run.before.p50_ms:.1f} and"
        f" {run.meanwhile.p50_ms:.1f} ms, p99 {run.before.p99_ms:.1f} and {run.meanwhile.p99_ms:.1f} ms"
        f" ({run.ratio:.2f}), highest {run.before.highest_ms:.0f} and {run.meanwhile.highest_ms:.0f} ms"
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.seeding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gib", type=float, default=1.0, help="what the log holds (default: 1)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"followers emptied (default: {RUNS})")
    parser.add_argument(
        "--baseline",
        type=float,
        default=BASELINE_S,
        help=f"seconds of load before each (default: {BASELINE_S:g})",
    )
    parser.add_argument(
        "--flush", choices=("sync", "async"), default="sync", help="flush.policy of all brokers"
    )
    parser.add_argument(
        "--segment-bytes", type=int, default=SEGMENT_BYTES, help="log.segment.bytes of all brokers"
    )
    parser.add_argument("--report", type=Path, help="write the table into this file, between its marks")
    parser.add_argument(
        "--folder", type=Path, help="where the brokers keep data (default: the temporary folder)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
