"""What a dead leader costs: `python -m bench.failover [--runs N] [--report FILE]`.

Three brokers (`flush.policy: sync`), one confluent-kafka producer at acks=all with its default timeouts that sends a small
message every two milliseconds. The leader gets SIGKILL; the time from there to the next acknowledgement is one run. Then the
dead broker comes back and the shard becomes whole again before the next run. Afterwards, once the client has found the brokers
again that had been away, the leadership is handed over on request as many times: the longest time without an acknowledgement
around that is the other figure.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.run import placed
from penstock.testing.shard_processes import ShardProcesses

RUNS = 20
TOPIC = "failover"
SEND_INTERVAL_S = 0.002
SETTLE_S = 1.0
# librdkafka's longest pause between two tries to reach a broker that was away.
RECONNECT_S_MAX = 10.0
WAIT_S_MAX = 30.0
BEGIN = "<!-- failover: begin -->"
END = "<!-- failover: end -->"


class Stream:
    """A producer in a thread of its own, and when each of its messages was acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 0}
        )
        self.acknowledged: list[float] = []
        self.failed: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._producer.produce(TOPIC, b"x" * 100, on_delivery=self._delivered)
            self._producer.poll(SEND_INTERVAL_S)
        self._producer.flush(WAIT_S_MAX)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged.append(time.monotonic())
        else:
            self.failed.append(str(error))

    def first_after(self, moment: float) -> float:
        """When the first acknowledgement behind that moment came. Raises TimeoutError."""
        deadline = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < deadline:
            if self.acknowledged and self.acknowledged[-1] > moment:
                return next(each for each in self.acknowledged if each > moment)
            time.sleep(0.002)
        raise TimeoutError(f"nothing was acknowledged within {WAIT_S_MAX:.0f} s")

    def longest_gap(self, since: float) -> float:
        """The longest time without an acknowledgement from that moment on, in seconds."""
        times = [since, *(each for each in self.acknowledged if each > since)]
        return max((late - early for early, late in itertools.pairwise(times)), default=0.0)

    def stop(self) -> None:
        """Ends it and waits for what is outstanding."""
        self._stopping.set()
        self._thread.join()


def main() -> int:
    """Runs; 0 when nothing failed at the producer."""
    options = _options()
    kills: list[float] = []
    moves: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="penstock-failover-") as folder,
        ShardProcesses(Path(folder), config={"min.insync.replicas": 2}) as shard,
    ):
        admin = AdminClient({"bootstrap.servers": shard.kafka})
        admin.create_topics([NewTopic(TOPIC, 6)])[TOPIC].result(WAIT_S_MAX)
        stream = Stream(shard.kafka)
        try:
            for number in range(options.runs):
                kills.append(_kill(shard, stream))
                _say(f"run {number + 1}: kill -9 {kills[-1] * 1000:.0f} ms")
            time.sleep(RECONNECT_S_MAX)
            for number in range(options.runs):
                moves.append(_move(shard, stream))
                _say(f"run {number + 1}: hand-over {moves[-1] * 1000:.0f} ms")
        finally:
            stream.stop()
    report = _report(kills, moves, len(stream.acknowledged), len(stream.failed))
    if options.report:
        options.report.write_text(placed(report, options.report, BEGIN, END))
    print(report)
    return 1 if stream.failed else 0


def _say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)


def _kill(shard: ShardProcesses, stream: Stream) -> float:
    time.sleep(SETTLE_S)
    leader = shard.leader()
    killed = time.monotonic()
    shard.kill(leader)
    waited = stream.first_after(killed + 0.001) - killed
    waited = max(waited, _first_gap(stream, killed))
    shard.restart(leader)
    shard.wait_whole()
    return waited


def _first_gap(stream: Stream, killed: float) -> float:
    """Acknowledgements that were on their way at the kill do not end the outage: the gap behind them does."""
    time.sleep(SETTLE_S)
    return stream.longest_gap(killed)


def _move(shard: ShardProcesses, stream: Stream) -> float:
    time.sleep(SETTLE_S)
    asked = time.monotonic()
    shard.hand_over()
    time.sleep(SETTLE_S)
    return stream.longest_gap(asked)


def _report(kills: list[float], moves: list[float], acknowledged: int, failed: int) -> str:
    lines = [
        f"{len(kills)} runs, {acknowledged:,} messages acknowledged, {failed} failed at the producer.\n",
        "| time without an acknowledged write | p50 ms | highest ms |",
        "| --- | --: | --: |",
    ]
    for words, figures in (("leader killed with SIGKILL", kills), ("hand-over on request", moves)):
        lines.append(f"| {words} | {statistics.median(figures) * 1000:.0f} | {max(figures) * 1000:.0f} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.failover",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"kills and hand-overs (default: {RUNS})")
    parser.add_argument("--report", type=Path, help="write the table into this file, between its marks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
