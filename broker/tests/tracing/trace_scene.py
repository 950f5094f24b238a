"""A shard whose broker traces: real parts on a simulated disk, and the spans that came of it."""

from __future__ import annotations

import asyncio
import random

from penstock.codec.compression import Compression
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.service.api import AppendResult, FetchedPartition, FetchPartition, NewTopic, ProduceBatches
from penstock.service.followed import FollowedBatches
from penstock.service.tracing import BrokerTracing
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard
from penstock.tracing.context import TraceContext, traceparent
from penstock.tracing.span import Span

PRODUCER = TraceContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True)
UNSAMPLED = PRODUCER._replace(sampled=False)


def batch(
    context: TraceContext | None = None,
    count: int = 3,
    *,
    key: bytes = b"order-4711",
    message_id: str = "",
    **options: object,
) -> bytes:
    """`count` records, of which the first has the context."""
    headers: list[tuple[str, bytes | None]] = []
    if context is not None:
        headers.append(("traceparent", traceparent(*context[:2], sampled=context.sampled).encode()))
    if message_id:
        headers.append(("message-id", message_id.encode()))
    records = [
        Record(key, b"a value", 5, tuple(headers)),
        *(Record(b"other", b"v") for _ in range(count - 1)),
    ]
    return build_batch(records, options=BatchOptions(**options))  # type: ignore[arg-type]


def compressed(context: TraceContext | None = None) -> bytes:
    return batch(context, compression=Compression.GZIP)


class TraceScene:
    """`spans` are those that have ended, in order."""

    def __init__(self, shard: SimulatedShard, **options: int) -> None:
        self.shard = shard
        self.spans: list[Span] = []
        self.counters = shard.shard.counters.tracing
        self._ids = 0
        self.batches = FollowedBatches(shard.settings, shard.clock, self.counters, "cluster", 0)
        self.tracing = BrokerTracing(
            shard.shard,
            self.batches,
            self.spans.append,
            lambda: shard.clock.now * 1_000_000,
            self._new_id,
            **options,
        )

    def _new_id(self) -> int:
        self._ids += 1
        return self._ids

    @classmethod
    async def make(
        cls, *, on: bool = True, topic: dict[str, str] | None = None, **options: int
    ) -> TraceScene:
        shard = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock(), segment_bytes=1 << 20)
        await shard.lead()
        config = {"penstock.tracing.sampling": "0"} | (topic or {})
        (made,) = await shard.wait(
            shard.topics.create_topics(CONTEXT, [NewTopic("orders", 2, config=config)])
        )
        assert not made.error, made.message
        scene = cls(shard, **options)
        if on:
            shard.data.tracing = scene.tracing
        return scene

    async def produce(self, *batches: bytes, acks: int = -1, partition: int = 0) -> AppendResult:
        asked = [ProduceBatches("orders", partition, memoryview(b"".join(batches)))]
        (result,) = await self.shard.wait(self.shard.data.produce(CONTEXT, asked, acks, 60_000))
        await self.settle()
        return result

    async def fetch(self, offset: int = 0, partition: int = 0) -> FetchedPartition:
        asked = [FetchPartition("orders", partition, offset, 1 << 20)]
        answer = self.shard.data.fetch(CONTEXT, asked, min_bytes=1, max_bytes=1 << 20, max_wait_ms=0)
        (result,) = await self.shard.wait(answer)
        await self.settle()
        return result

    async def settle(self) -> None:
        """Everything is written and told."""
        await self.shard.settle()
        await asyncio.sleep(0)

    def named(self, operation: str) -> list[Span]:
        return [span for span in self.spans if span.name.startswith(operation + " ")]

    def one(self, operation: str) -> Span:
        (span,) = self.named(operation)
        return span
