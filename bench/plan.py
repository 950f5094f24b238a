"""What is measured: cells, how long each runs, and what both brokers are told so that they do the same work."""

from __future__ import annotations

from typing import NamedTuple

RECORD_SIZES = (100, 1024)
PARTITIONS = (1, 100)
PEERS = ("penstock", "kafka")


class Durability(NamedTuple):
    """What an acknowledgement promises, and how each broker is told so."""

    name: str
    words: str
    penstock_config: dict[str, object]
    kafka_topic_config: dict[str, str]


DURABILITIES = (
    Durability("async", "Penstock `async`, Kafka default (page cache)", {"flush.policy": "async"}, {}),
    Durability(
        "sync",
        "Penstock `sync`, Kafka `flush.messages=1` (on disk)",
        {"flush.policy": "sync"},
        {"flush.messages": "1"},
    ),
)


class Cell(NamedTuple):
    """One line of the report."""

    durability: str
    record_size: int
    partitions: int

    @property
    def words(self) -> str:
        """As the report writes it."""
        size = f"{self.record_size} B" if self.record_size < 1024 else f"{self.record_size // 1024} KiB"
        return f"{size}, {self.partitions} partition{'s' if self.partitions > 1 else ''}"


class Effort(NamedTuple):
    """How much is done in each cell.

    `bytes_total` is produced at full speed, `bytes_warm` before it, not counted, so that the Java load generator is
    compiled by then; everything in the topic is read back. Latency is taken at
    `bytes_per_second`, a load both brokers carry easily, because at full speed it only tells how long the client's own
    buffer is; half as long again goes before it, because a Java client that starts under a rate falls behind and has
    to catch up. `synced_share` of the bytes is enough with `sync`, where a byte costs more.
    """

    rounds: int
    bytes_total: int
    bytes_warm: int
    latency_seconds: int
    bytes_per_second: int
    synced_share: float


FULL = Effort(3, 240_000_000, 120_000_000, 8, 1_000_000, 0.15)
QUICK = Effort(1, 30_000_000, 15_000_000, 4, 1_000_000, 0.2)


def cells(durability: str) -> list[Cell]:
    """All cells of one durability."""
    return [Cell(durability, size, partitions) for size in RECORD_SIZES for partitions in PARTITIONS]
