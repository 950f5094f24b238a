"""Brokers on which nothing happens but what a test does."""

from __future__ import annotations

from collections.abc import Callable

from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.errors import ErrorCode
from penstock.service.api import ProduceBatches
from penstock.testing.simulated_cluster.broker import CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.shapes import Shape
from penstock.testing.simulated_cluster.world import World

SHAPE = Shape(
    brokers=3,
    sync=True,
    grows=False,
    producers=0,
    idempotent=0,
    partitions=1,
    trims=False,
    segment_bytes=4096,
    power_cycle_at_end=False,
)
SECONDS_MAX = 20.0


class Scene(World):
    """They are in sync when it begins. `seed` chooses how long everything takes."""

    def __init__(self, seed: int = 0, shape: Shape = SHAPE) -> None:
        super().__init__(seed, [], shape)
        self.begin()
        everybody = shape.brokers
        self.until(lambda: self.leader is not None and len(self.leader.member.in_sync_members()) == everybody)

    @property
    def leader(self) -> SimulatedBroker | None:
        return next((broker for broker in self.brokers if broker.up and broker.shard.leading), None)

    def until(self, condition: Callable[[], object], step: float = 0.01) -> None:
        deadline = self.agenda.now + SECONDS_MAX
        while not condition():
            assert self.agenda.now < deadline, "it did not come to that"
            self.agenda.run_until(self.agenda.now + step)
            if self.violation is not None:
                raise self.violation

    def pass_time(self, seconds: float) -> None:
        end = self.agenda.now + seconds
        self.until(lambda: self.agenda.now >= end)

    def produce(self, broker: SimulatedBroker, count: int, size: int = 100) -> list[ErrorCode]:
        """Begins to write; the list fills as answers come."""
        answers: list[ErrorCode] = []
        assert broker.loop is not None
        with broker.loop.running():
            for _ in range(count):
                batch = build_batch([Record(value=bytes(size), timestamp=1)], 0, BatchOptions())
                item = ProduceBatches("t", 0, memoryview(bytes(batch)))
                future = broker.data.produce(CONTEXT, [item], -1, 5000)
                future.add_done_callback(lambda done: answers.append(done.result()[0].error))  # type: ignore[attr-defined]
        return answers
