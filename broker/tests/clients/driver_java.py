"""Apache Kafka's own Java client, through the tools its system tests use: VerifiableProducer, VerifiableConsumer.

Both print a JSON line for every message and every rebalance, so they can be kept books about like a library. Lookup
by time goes through kafka-get-offsets and a group whose offsets kafka-consumer-groups reset to the time.
"""

from __future__ import annotations

import json
import tempfile
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_driver import (
    HEARTBEAT_INTERVAL_MS,
    KEYS,
    SESSION_TIMEOUT_MS,
    Ack,
    ClientError,
    Load,
    Member,
    Receipt,
    eventually,
)
from client_process import ClientProcess, run
from penstock.testing.apache_kafka import KAFKA_VERSION, java_command

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOLS = "org.apache.kafka.tools"
ASSIGNORS = "org.apache.kafka.clients.consumer"


class JavaDriver:
    """Drives kafka-clients through VerifiableProducer and VerifiableConsumer."""

    name = "Apache Kafka tools"
    version = KAFKA_VERSION
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def start_load(
        self, bootstrap: str, topic: str, messages: int, *, per_second: int | None = None, codec: str = "none"
    ) -> Load:
        settings = {
            "compression.type": codec,
            "linger.ms": "5",
            "reconnect.backoff.max.ms": "500",
            # The tool switches retries off, and with them idempotence; the client's own defaults have both.
            "retries": "2147483647",
            "enable.idempotence": "true",
        }
        arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--max-messages", str(messages)]
        arguments += ["--repeating-keys", str(KEYS), "--acks", "-1"]
        if per_second is not None:
            arguments += ["--throughput", str(per_second)]
        return _JavaLoad(f"{TOOLS}.VerifiableProducer", arguments, settings)

    def read_all(self, bootstrap: str, topic: str, count: int, timeout_s: float = 30.0) -> list[Receipt]:
        return self._read(bootstrap, topic, f"read-all-{uuid.uuid4()}", count, timeout_s)

    def read_from_time(
        self, bootstrap: str, topic: str, timestamp_ms: int, count: int, timeout_s: float = 30.0
    ) -> list[Receipt]:
        group = f"from-time-{uuid.uuid4()}"
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
        arguments = ["--bootstrap-server", bootstrap, "--group", group, "--topic", topic]
        arguments += ["--reset-offsets", "--to-datetime", moment, "--execute"]
        run(java_command(f"{TOOLS}.consumer.group.ConsumerGroupCommand", *arguments))
        return self._read(bootstrap, topic, group, count, timeout_s)

    def join(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        *,
        cooperative: bool = False,
        instance: str | None = None,
    ) -> Member:
        arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--group-id", group, "--verbose"]
        arguments += ["--session-timeout", str(SESSION_TIMEOUT_MS), "--reset-policy", "earliest"]
        strategy = "CooperativeStickyAssignor" if cooperative else "RangeAssignor"
        arguments += ["--assignment-strategy", f"{ASSIGNORS}.{strategy}"]
        if instance is not None:
            arguments += ["--group-instance-id", instance]
        return _JavaMember(arguments)

    def _read(self, bootstrap: str, topic: str, group: str, count: int, timeout_s: float) -> list[Receipt]:
        member = self.join(bootstrap, topic, group)
        try:
            eventually(
                lambda: len(member.receipts()) >= count,
                timeout_s,
                lambda: f"{count} messages, {len(member.receipts())} were read",
            )
            return member.receipts()
        finally:
            member.leave()


class _JavaLoad(Load):
    def __init__(self, main_class: str, arguments: list[str], settings: Mapping[str, str]) -> None:
        self._acks: list[Ack] = []
        self._folder = tempfile.TemporaryDirectory(prefix="java-load-")
        arguments = [*arguments, "--command-config", _properties(self._folder.name, settings)]
        self._process = ClientProcess(java_command(main_class, *arguments), self._hear)

    @property
    def acked(self) -> int:
        return len(self._acks)

    def finish(self, timeout_s: float) -> list[Ack]:
        try:
            self._process.wait(timeout_s)
        except ClientError:
            self._process.stop()
            raise
        finally:
            self._folder.cleanup()
        return sorted(self._acks)

    def _hear(self, line: str) -> None:
        event = _event(line)
        if event.get("name") == "producer_send_success":
            self._acks.append(Ack(int(event["value"]), int(event["partition"]), int(event["offset"])))


class _JavaMember(Member):
    def __init__(self, arguments: list[str]) -> None:
        self._lock = threading.Lock()
        self._held: frozenset[int] = frozenset()
        self._changes = 0
        self._receipts: list[Receipt] = []
        self._folder = tempfile.TemporaryDirectory(prefix="java-member-")
        settings = {
            "heartbeat.interval.ms": str(HEARTBEAT_INTERVAL_MS),
            "reconnect.backoff.max.ms": "500",
        }
        arguments = [*arguments, "--command-config", _properties(self._folder.name, settings)]
        self._process = ClientProcess(java_command(f"{TOOLS}.VerifiableConsumer", *arguments), self._hear)

    def assigned(self) -> frozenset[int]:
        self._process.check()
        return self._held

    def changes(self) -> int:
        return self._changes

    def receipts(self) -> list[Receipt]:
        self._process.check()
        with self._lock:
            return list(self._receipts)

    def leave(self) -> None:
        self._process.stop()
        self._folder.cleanup()

    def _hear(self, line: str) -> None:
        event = _event(line)
        match event.get("name"):
            case "record_data":
                receipt = Receipt(int(event["value"]), int(event["partition"]), int(event["offset"]))
                with self._lock:
                    self._receipts.append(receipt)
            case "partitions_assigned":
                self._hold(self._held | _event_partitions(event))
            case "partitions_revoked":
                self._hold(self._held - _event_partitions(event))

    def _hold(self, partitions: frozenset[int]) -> None:
        if partitions != self._held:
            self._held = partitions
            self._changes += 1


def _event_partitions(event: dict[str, Any]) -> frozenset[int]:
    return frozenset(int(one["partition"]) for one in event["partitions"])


def _event(line: str) -> dict[str, Any]:
    """The event of a line of output, empty for a line that is none (Java says a word about its logger)."""
    if not line.startswith("{"):
        return {}
    event = json.loads(line)
    return event if isinstance(event, dict) else {}


def _properties(folder: str, settings: Mapping[str, str]) -> str:
    file = Path(folder) / "client.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return str(file)
