"""`make demo`: a broker described in YAML takes 100,000 messages and gives them all back, although it was killed.

1. `penstock up examples/quickstart.yaml` runs the broker as a process of this machine.
2. confluent-kafka produces 100,000 messages at acks=all, idempotent.
3. Halfway the broker's process gets SIGKILL; `penstock up` starts it again.
4. Everything is read back and compared with the ledger. The last line is for scripts; exit 0 only when nothing
   acknowledged is missing or out of order within its partition.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

import show
from kafka_load import KafkaLoad, LoadError, LoadPlan
from penstock.testing.ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "quickstart.yaml"
CLUSTER = "quickstart"
TOPIC = "orders"
MESSAGES = 100_000
UP_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.1
ANSWER_SECONDS_MAX = 5.0
LOG_TAIL_CHARACTERS = 3000


class DemoError(Exception):
    """The demo could not be carried through; the sentence says where it stopped."""


@dataclass
class LocalPenstock:
    """`penstock up` as a child process; what it prints goes to a file that is shown when something fails."""

    folder: Path

    def __enter__(self) -> Self:
        self.log = self.folder / "up.log"
        self.status_file = self.folder / "status.json"
        command = [sys.executable, "-m", "penstock.main", "up", str(EXAMPLE)]
        command += ["--data", str(self.folder / "data"), "--status-file", str(self.status_file)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def status(self) -> dict[str, Any] | None:
        """What the status file says of the cluster; None before it is written."""
        if not self.status_file.exists():
            return None
        found: dict[str, Any] | None = json.loads(self.status_file.read_text()).get(CLUSTER)
        return found

    def wait_serving(self) -> tuple[str, int]:
        """Waits for the broker and its topic; returns bootstrap address and number of partitions."""
        deadline = time.monotonic() + UP_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise DemoError(f"penstock up ended with code {self.process.returncode}")
            found = self.status()
            if found and found.get("bootstrap") and (partitions := self._partitions(found["bootstrap"])):
                return found["bootstrap"], partitions
            time.sleep(POLL_SECONDS)
        raise DemoError(f"topic {TOPIC} was not there within {UP_SECONDS_MAX:.0f} s")

    def _partitions(self, bootstrap: str) -> int:
        """Number of the topic's partitions, 0 while it is not there or nobody answers."""
        client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        try:
            # All topics are listed, because asking for one by name may create it.
            topic = client.list_topics(timeout=ANSWER_SECONDS_MAX).topics.get(TOPIC)
        except KafkaException:
            return 0  # the broker is still starting
        return 0 if topic is None or topic.error is not None else len(topic.partitions)

    def broker_pid(self) -> int:
        """Process id of the cluster's only broker."""
        found = self.status()
        if not found or not found["pids"]:
            raise DemoError("penstock up names no broker process")
        (pid,) = found["pids"].values()
        return int(pid)

    def wait_other_pid(self, pid: int) -> int:
        """Waits until the broker runs as another process; returns its id."""
        deadline = time.monotonic() + UP_SECONDS_MAX
        while time.monotonic() < deadline:
            found = self.status()
            if found and found["pids"] and (other := self.broker_pid()) != pid:
                return other
            time.sleep(POLL_SECONDS)
        raise DemoError(f"the broker still has process id {pid} after it was killed")

    def log_tail(self) -> str:
        """The end of what `penstock up` printed."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]


def carry_out(up: LocalPenstock, messages: int) -> int:
    """The demo itself; returns the exit code."""
    show.step(f"penstock up {EXAMPLE.relative_to(ROOT)}")
    started = time.monotonic()
    bootstrap, partitions = up.wait_serving()
    show.step(f"cluster {CLUSTER} serves on {bootstrap}, topic {TOPIC} has {partitions} partitions")
    ready_ms = round((time.monotonic() - started) * 1000)

    ledger = Ledger()
    killed: list[int] = []
    show.step(f"{messages:,} messages at acks=all, SIGKILL to the broker halfway")
    with show.flow(messages) as move:

        def at_half() -> None:
            pid = up.broker_pid()
            os.kill(pid, signal.SIGKILL)
            ledger.interrupt(_now_ms())
            killed.append(pid)

        plan = LoadPlan(bootstrap, TOPIC, f"demo-{os.getpid()}", messages)
        load = KafkaLoad(plan, ledger, _now_ms, lambda book: move(book.sent, book.acked, book.received))
        begun = time.monotonic()
        load.produce(at_half)
        produced = time.monotonic() - begun
        begun = time.monotonic()
        load.consume()
        consumed = time.monotonic() - begun
    successor = up.wait_other_pid(killed[0])
    rows = [
        ("cluster and topic ready after", f"{ready_ms} ms"),
        ("broker killed / its successor", f"{killed[0]} / {successor}"),
        ("partitions", str(partitions)),
        ("produced in, with the restart", f"{produced:.1f} s"),
        ("read back in", f"{consumed:.1f} s"),
    ]
    return show.result(ledger.judge(), rows, "demo")


def main() -> int:
    """Reads the command line and runs the demo in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=MESSAGES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder, LocalPenstock(Path(folder)) as up:
        try:
            return carry_out(up, arguments.messages)
        except (DemoError, LoadError) as error:
            print(
                f"{up.log_tail()}\ndemo: {error}; the end of penstock up's output is above", file=sys.stderr
            )
            return 1


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
