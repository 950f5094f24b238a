"""kcat, as Debian packages it: librdkafka from C, an older one than confluent-kafka brings.

Deliveries and rebalances are told in words on standard error. A delivery names partition and offset, not the message.
With idempotence the deliveries of one partition come in the order of its messages, so a load runs one kcat for each
partition and pairs the two sequences.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from client_driver import (
    HEARTBEAT_INTERVAL_MS,
    KEYS,
    SESSION_TIMEOUT_MS,
    Ack,
    ClientError,
    Load,
    Member,
    Pace,
    Receipt,
)
from client_process import ClientProcess, run

if TYPE_CHECKING:
    from collections.abc import Sequence

_DELIVERED = re.compile(r"% Message delivered to partition (\d+) \(offset (\d+)\)")
# "% Group g rebalanced (memberid …): assigned: t [0], t [1]", and in the cooperative protocol
# "% Group g rebalanced: incremental assign of 2 partition(s) (memberid …): t [0], t [1]"
_REBALANCED = re.compile(r"% Group \S+ rebalanced.*?(assign|revoke)")
_PARTITION = re.compile(r"\[(\d+)\]")
FORMAT = "%s %p %o %T\\n"


class KcatMissingError(Exception):
    """kcat is not installed; the text says how to get it."""


def kcat() -> str:
    """The program. Raises KcatMissingError with what to install."""
    found = shutil.which("kcat")
    if found is None:
        raise KcatMissingError(
            "kcat is missing: run tools/install-prerequisites (Debian: apt-get install kcat)"
        )
    return found


class KcatDriver:
    """Drives kcat's producer, consumer and group consumer modes."""

    name = "kcat"
    version = "1.7"
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def start_load(
        self, bootstrap: str, topic: str, messages: int, *, per_second: int | None = None, codec: str = "none"
    ) -> Load:
        return _KcatLoad(bootstrap, topic, messages, per_second, codec)

    def read_all(self, bootstrap: str, topic: str, count: int, timeout_s: float = 30.0) -> list[Receipt]:
        return self._read(bootstrap, topic, "beginning", count, timeout_s)

    def read_from_time(
        self, bootstrap: str, topic: str, timestamp_ms: int, count: int, timeout_s: float = 30.0
    ) -> list[Receipt]:
        return self._read(bootstrap, topic, f"s@{timestamp_ms}", count, timeout_s)

    def join(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        *,
        cooperative: bool = False,
        instance: str | None = None,
    ) -> Member:
        settings = [
            f"session.timeout.ms={SESSION_TIMEOUT_MS}",
            f"heartbeat.interval.ms={HEARTBEAT_INTERVAL_MS}",
            "auto.offset.reset=earliest",
            "reconnect.backoff.max.ms=500",
            f"partition.assignment.strategy={'cooperative-sticky' if cooperative else 'range'}",
        ]
        if instance is not None:
            settings.append(f"group.instance.id={instance}")
        return _KcatMember(
            [kcat(), "-b", bootstrap, "-u", "-E", "-f", FORMAT, *_settings(settings), "-G", group, topic]
        )

    def _read(self, bootstrap: str, topic: str, start: str, count: int, timeout_s: float) -> list[Receipt]:
        command = [
            kcat(),
            "-C",
            "-b",
            bootstrap,
            "-t",
            topic,
            "-o",
            start,
            "-c",
            str(count),
            "-q",
            "-f",
            FORMAT,
        ]
        receipts = [_receipt(line) for line in run(command, timeout_s=timeout_s).splitlines()]
        if len(receipts) != count:
            raise ClientError(f"kcat read {len(receipts)} messages where {count} were asked for")
        return receipts


class _KcatLoad(Load):
    def __init__(self, bootstrap: str, topic: str, messages: int, per_second: int | None, codec: str) -> None:
        self._acks: list[Ack] = []
        self._messages = messages
        self._sent: dict[int, deque[int]] = defaultdict(deque)
        self._partitions = partition_count(bootstrap, topic)
        self._failure: OSError | None = None
        settings = ["enable.idempotence=true", "linger.ms=5", "reconnect.backoff.max.ms=500"]
        # One process per partition: kcat takes the partition as an argument, and chooses none by itself otherwise
        # than by key, which it does not tell.
        self._processes = {
            partition: ClientProcess(
                [
                    kcat(),
                    "-P",
                    "-b",
                    bootstrap,
                    "-t",
                    topic,
                    "-p",
                    str(partition),
                    "-K:",
                    "-z",
                    codec,
                    "-vv",
                    "-E",
                    "-u",
                    *_settings(settings),
                ],
                self._hear,
                has_input=True,
            )
            for partition in range(self._partitions)
        }
        self._thread = threading.Thread(target=self._feed, args=(per_second,), daemon=True)
        self._thread.start()

    @property
    def acked(self) -> int:
        return len(self._acks)

    def finish(self, timeout_s: float) -> list[Ack]:
        self._thread.join(timeout_s)
        if self._failure is not None:
            said = "\n".join(process.said for process in self._processes.values())
            raise ClientError(f"kcat hung up after {self.acked} deliveries: {said}") from self._failure
        for process in self._processes.values():
            try:
                process.wait(timeout_s)
            except ClientError:
                process.stop()
                raise
        return sorted(self._acks)

    def _feed(self, per_second: int | None) -> None:
        pace = Pace(per_second)
        try:
            for number in range(self._messages):
                pace.wait_for(number)
                key = number % KEYS
                partition = key % self._partitions
                self._sent[partition].append(number)
                self._processes[partition].input.write(f"{key}:{number}\n")
            for process in self._processes.values():
                process.input.close()
        except OSError as failure:
            self._failure = failure

    def _hear(self, line: str) -> None:
        if told := _DELIVERED.match(line):
            partition, offset = int(told[1]), int(told[2])
            self._acks.append(Ack(self._sent[partition].popleft(), partition, offset))


class _KcatMember(Member):
    def __init__(self, command: Sequence[str]) -> None:
        self._held: frozenset[int] = frozenset()
        self._changes = 0
        self._receipts: list[Receipt] = []
        self._process = ClientProcess(command, self._hear)

    def assigned(self) -> frozenset[int]:
        self._process.check()
        return self._held

    def changes(self) -> int:
        return self._changes

    def receipts(self) -> list[Receipt]:
        self._process.check()
        return list(self._receipts)

    def leave(self) -> None:
        self._process.stop()

    def _hear(self, line: str) -> None:
        if told := _REBALANCED.match(line):
            named = frozenset(int(partition) for partition in _PARTITION.findall(line))
            held = self._held | named if told[1] == "assign" else self._held - named
            if held != self._held:
                self._held = held
                self._changes += 1
        elif line and not line.startswith("%"):
            self._receipts.append(_receipt(line))


def partition_count(bootstrap: str, topic: str) -> int:
    """How many partitions kcat's metadata listing shows."""
    listing = run([kcat(), "-L", "-b", bootstrap, "-t", topic])
    found = re.search(rf'topic "{re.escape(topic)}" with (\d+) partitions', listing)
    if found is None:
        raise ClientError(f"kcat lists no partitions of {topic}:\n{listing}")
    return int(found[1])


def _settings(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("-X", setting)]


def _receipt(line: str) -> Receipt:
    value, partition, offset, timestamp = line.split()
    return Receipt(int(value), int(partition), int(offset), int(timestamp))
