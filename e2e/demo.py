"""`make demo`: brokers described in YAML take 100,000 messages and give them all back, although the leader was killed.

1. `penstock up examples/raft.yaml` runs three brokers as processes of this machine, told to keep the events of what they
   do with each batch. (`--mode` chooses another example; `make demo MODE=MasterSlave`: two brokers and a Lease.)
2. confluent-kafka produces 100,000 messages at acks=all, idempotent.
3. Halfway the leader's process gets SIGKILL: another broker leads, and `penstock up` starts the dead one again.
4. Once all are level, their logs and states are compared by hash.
5. Everything is read back and compared with the ledger, and `penstock trace` tells the way of a message that was sent before
   the kill and acknowledged after it. The last line is for scripts; exit 0 only when nothing acknowledged is missing or out
   of order within its partition.
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
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

import show
from kafka_load import KafkaLoad, LoadError, LoadPlan
from penstock.testing.ledger import Ledger, MessagePlace
from penstock.testing.replicas import DisagreementError, replicas_agree

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = {"Raft": ROOT / "examples" / "raft.yaml", "MasterSlave": ROOT / "examples" / "master-slave.yaml"}
"""The example of each mode."""
TRACING = {"topic": True, "sampling": 1}
"""What the demo adds to an example's spec: every batch is followed, so that any message's way can be told."""
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
    example: Path

    def __enter__(self) -> Self:
        cluster, *others = yaml.safe_load_all(self.example.read_text())
        cluster["spec"]["tracing"] = TRACING
        traced = self.folder / self.example.name
        traced.write_text(yaml.safe_dump_all([cluster, *others]))
        self.cluster = str(cluster["metadata"]["name"])
        self.brokers = int(cluster["spec"]["replicas"])
        self.log = self.folder / "up.log"
        self.status_file = self.folder / "status.json"
        command = [sys.executable, "-m", "penstock.main", "up", str(traced)]
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
        found: dict[str, Any] | None = json.loads(self.status_file.read_text()).get(self.cluster)
        return found

    def wait_serving(self) -> tuple[str, int]:
        """Waits for the brokers and their topic; returns bootstrap address and number of partitions."""
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

    def shard(self) -> dict[str, Any]:
        """The shard as a broker that answers knows it: leader, epoch, members."""
        for admin in self._admins():
            try:
                shard: dict[str, Any] = _get(admin, "/v1/cluster")["shards"][0]
            except OSError:
                continue  # this one was killed
            if shard["leader"]:
                return shard
        raise DemoError("no broker names a leader")

    def pid(self, broker: str) -> int:
        """Process id of a broker."""
        found = self.status()
        if not found or broker not in found["pids"]:
            raise DemoError(f"penstock up names no process of broker {broker}")
        return int(found["pids"][broker])

    def agreement(self) -> str:
        """Waits until all replicas have committed the same, and compares them; a sentence for the table."""
        deadline = time.monotonic() + UP_SECONDS_MAX
        while len(admins := self._admins()) < self.brokers:
            if time.monotonic() > deadline:
                raise DemoError(f"only {len(admins)} of {self.brokers} brokers came back")
            time.sleep(POLL_SECONDS)
        agreed = replicas_agree([f"http://{admin}" for admin in admins], timeout_s=UP_SECONDS_MAX)
        return f"{len(agreed.replicas)} logs and states are the same"

    def trace(self, place: MessagePlace) -> str:
        """What `penstock trace` prints of a message. Raises DemoError."""
        command = [
            "trace",
            "--topic",
            TOPIC,
            "--partition",
            str(place.partition),
            "--offset",
            str(place.offset),
        ]
        command += ["--admin", f"http://{self._admins()[0]}"]
        done = subprocess.run(
            [sys.executable, "-m", "penstock.main", *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoError(f"penstock {' '.join(command)} failed: {done.stderr.strip()}")
        return f"penstock {' '.join(command)}\n{done.stdout.rstrip()}"

    def _admins(self) -> list[str]:
        """Addresses of the admin APIs of the brokers that run; one that is starting has none yet."""
        found = self.status()
        brokers = found["brokers"].values() if found else ()
        return [listeners["admin"] for listeners in brokers if "admin" in listeners]

    def log_tail(self) -> str:
        """The end of what `penstock up` printed."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]


def carry_out(up: LocalPenstock, messages: int) -> int:
    """The demo itself; returns the exit code."""
    show.step(f"penstock up {up.example.relative_to(ROOT)}, with spec.tracing: {json.dumps(TRACING)}")
    started = time.monotonic()
    bootstrap, partitions = up.wait_serving()
    show.step(f"cluster {up.cluster} serves on {bootstrap}, topic {TOPIC} has {partitions} partitions")
    ready_ms = round((time.monotonic() - started) * 1000)

    ledger = Ledger()
    killed: list[str] = []
    epochs: list[int] = []
    show.step(f"{messages:,} messages at acks=all, SIGKILL to the leader halfway")
    with show.flow(messages) as move:

        def at_half() -> None:
            shard = up.shard()
            os.kill(up.pid(shard["leader"]), signal.SIGKILL)
            ledger.interrupt(_now_ms())
            killed.append(shard["leader"])
            epochs.append(shard["epoch"])

        plan = LoadPlan(bootstrap, TOPIC, f"demo-{os.getpid()}", messages)
        load = KafkaLoad(plan, ledger, _now_ms, lambda book: move(book.sent, book.acked, book.received))
        begun = time.monotonic()
        load.produce(at_half)
        produced = time.monotonic() - begun
        begun = time.monotonic()
        load.consume()
        consumed = time.monotonic() - begun
    agreement = up.agreement()
    shard = up.shard()
    survivor = ledger.survivor
    if survivor is not None:
        show.text(up.trace(survivor))
    rows = [
        ("cluster and topic ready after", f"{ready_ms} ms"),
        ("leader killed", f"{killed[0]}, epoch {epochs[0]}"),
        ("leader now", f"{shard['leader']}, epoch {shard['epoch']}"),
        ("replicas compared", agreement),
        ("partitions", str(partitions)),
        ("produced in, with the failover", f"{produced:.1f} s"),
        ("read back in", f"{consumed:.1f} s"),
    ]
    return show.result(ledger.judge(), rows, "demo")


def main() -> int:
    """Reads the command line and runs the demo in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=EXAMPLES, default="Raft")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    arguments = parser.parse_args()
    example = EXAMPLES[arguments.mode]
    with (
        tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder,
        LocalPenstock(Path(folder), example) as up,
    ):
        try:
            return carry_out(up, arguments.messages)
        except (DemoError, LoadError, DisagreementError) as error:
            print(
                f"{up.log_tail()}\ndemo: {error}; the end of penstock up's output is above", file=sys.stderr
            )
            return 1


def _get(admin: str, path: str) -> dict[str, Any]:
    """One answer of a broker's admin API. Raises OSError."""
    with urllib.request.urlopen(f"http://{admin}{path}", timeout=ANSWER_SECONDS_MAX) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
