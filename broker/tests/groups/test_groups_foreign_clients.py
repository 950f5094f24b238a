"""Unmodified clients in real consumer groups: the listener and this coordinator, with data and topics in memory.

What only clients know of the protocol (how they answer each error, cooperative and static members) is found here, long
before a whole broker runs. Every wait is a poll with a deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
import uvloop

from groups_service_fakes import FakeLog
from penstock.groups.machine import GroupsMachine
from penstock.groups.settings import GroupSettings
from penstock.listeners.kafka.server import KafkaListener
from penstock.service.group_api import GroupService
from penstock.service.groups import ConsumerGroups
from penstock.testing.fake_services import FakeCluster

pytestmark = pytest.mark.clients

TOPIC = "orders"
PARTITIONS = 4
SETTINGS = GroupSettings(initial_rebalance_delay_ms=300)
DEADLINE_SECONDS = 30


class LoopClock:
    """The loop's own time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, callback)


class FakePartitions:
    """Positions of the fake topics."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.topics = cluster.topics

    def partition_count(self, topic: str) -> int | None:
        found = self.topics.topics.get(topic)
        return None if found is None else len(found)

    def log_start(self, topic: str, partition: int) -> int:
        return 0

    def high_watermark(self, topic: str, partition: int) -> int:
        return self.topics.topics[topic][partition].end

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        return -1

    def coordinator(self, listener: str, group: str) -> tuple[int, str, int]:
        return (0, *self.topics.address)


class Switch:
    """Hands every call to the coordinator of the moment."""

    current: ConsumerGroups

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)


class Served:
    """A broker's address, and its coordinator, which can fail over."""

    def __init__(self) -> None:
        self.bootstrap = ""
        self.switch = Switch()
        self.positions: FakePartitions
        self.machine = GroupsMachine()
        self.loop: asyncio.AbstractEventLoop
        self.suffixes = map(str, itertools.count())

    def begin(self) -> None:
        self.switch.current = ConsumerGroups(
            self.machine,
            FakeLog(self.machine),
            LoopClock(),
            self.positions,
            lambda: next(self.suffixes),
            SETTINGS,
        )
        self.switch.current.start()

    def fail_over(self) -> None:
        """A new coordinator, with nothing but a snapshot of what was committed."""

        async def replace() -> None:
            self.switch.current.stop()
            machine = GroupsMachine()
            machine.restore(self.machine.snapshot())
            self.machine = machine
            self.begin()

        asyncio.run_coroutine_threadsafe(replace(), self.loop).result(10)

    def generation(self, group: str) -> int:
        record = self.machine.generation(group)
        return 0 if record is None else record.generation


@contextmanager
def served() -> Iterator[Served]:
    ready = threading.Event()
    house = Served()
    stop: list[Callable[[], Any]] = []
    failures: list[BaseException] = []

    async def serve() -> None:
        cluster = FakeCluster()
        cluster.topics.create(TOPIC, PARTITIONS)
        house.positions = FakePartitions(cluster)
        house.loop = asyncio.get_running_loop()
        house.begin()
        services = cluster.services()._replace(groups=cast("GroupService", house.switch))
        listener = KafkaListener("internal", "127.0.0.1", 0, services, None)
        await listener.start()
        cluster.advertise(listener.address)
        house.bootstrap = "{}:{}".format(*listener.address)
        ended = asyncio.Event()
        stop.append(lambda: house.loop.call_soon_threadsafe(ended.set))
        ready.set()
        await ended.wait()
        house.switch.current.stop()
        await listener.stop()
        assert listener.counters.internal_errors == 0

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield house
    finally:
        if stop:
            stop[0]()
        thread.join(10)
    if failures:
        raise failures[0]


class Member:
    """A confluent-kafka consumer that is polled; counts how often it was rebalanced."""

    def __init__(self, house: Served, group: str, **options: object) -> None:
        from confluent_kafka import Consumer

        self.rebalances = 0
        self.assigned: set[int] = set()
        self.errors: set[int] = set()
        self.consumer = Consumer(
            {
                "bootstrap.servers": house.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 8_000,
                "heartbeat.interval.ms": 200,
                "enable.auto.commit": False,
                "error_cb": lambda error: self.errors.add(error.code()),
                **{name.replace("_", "."): value for name, value in options.items()},
            }
        )
        self.consumer.subscribe([TOPIC], on_assign=self._changed, on_revoke=self._changed)

    def _changed(self, *_: object) -> None:
        self.rebalances += 1

    def poll(self) -> None:
        message = self.consumer.poll(0.05)
        if message is not None and message.error() is not None:
            self.errors.add(message.error().code())
        self.assigned = {partition.partition for partition in self.consumer.assignment()}


def until(members: list[Member], holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        for member in members:
            member.poll()
        if holds():
            return
        assert time.monotonic() < deadline, f"{what}: {[sorted(m.assigned) for m in members]}"


def share_all(*members: Member) -> Callable[[], bool]:
    """Every partition is assigned to exactly one, and everybody has one."""

    def holds() -> bool:
        partitions = sorted(partition for member in members for partition in member.assigned)
        return partitions == list(range(PARTITIONS)) and all(member.assigned for member in members)

    return holds


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_of_librdkafka_share_and_take_over(strategy: str) -> None:
    with served() as house:
        first = Member(house, "g", partition_assignment_strategy=strategy)
        until([first], share_all(first), "the first member has everything")
        second = Member(house, "g", partition_assignment_strategy=strategy)
        until([first, second], share_all(first, second), "both share")
        second.consumer.close()
        until([first], share_all(first), "the first member has everything again")
        first.consumer.close()


def test_restarted_static_member_disturbs_nobody() -> None:
    # KIP-345.
    with served() as house:
        leader, follower = (Member(house, "g", group_instance_id=name) for name in "ab")
        until([leader, follower], share_all(leader, follower), "both share")
        generation, rebalances = house.generation("g"), leader.rebalances
        owned = set(follower.assigned)
        follower.consumer.close()
        again = Member(house, "g", group_instance_id="b")
        until([leader, again], lambda: bool(again.assigned), "the restarted member is assigned to")
        assert again.assigned == owned
        assert (house.generation("g"), leader.rebalances) == (generation, rebalances)
        for member in (leader, again):
            member.consumer.close()


def test_second_process_with_the_same_instance_id_fences_the_first() -> None:
    from confluent_kafka import KafkaError

    with served() as house:
        first = Member(house, "g", group_instance_id="a")
        until([first], share_all(first), "the first process has everything")
        second = Member(house, "g", group_instance_id="a")
        until([first, second], lambda: KafkaError._FATAL in first.errors, "the first process is told to stop")
        until([second], share_all(second), "the second process has everything")
        second.consumer.close()
        first.consumer.close()


def test_members_go_on_after_a_failover_of_the_coordinator() -> None:
    from confluent_kafka import TopicPartition

    with served() as house:
        members = [Member(house, "g", group_instance_id="a"), Member(house, "g")]
        until(members, share_all(*members), "both share")
        generation, rebalances = house.generation("g"), [m.rebalances for m in members]
        first = min(members[0].assigned)
        members[0].consumer.commit(offsets=[TopicPartition(TOPIC, first, 7)], asynchronous=False)
        house.fail_over()
        ends = time.monotonic() + 2
        until(members, lambda: time.monotonic() > ends, "two seconds of heartbeats")
        members[0].consumer.commit(offsets=[TopicPartition(TOPIC, first, 8)], asynchronous=False)
        (committed,) = members[0].consumer.committed([TopicPartition(TOPIC, first)], timeout=10)
        assert committed.offset == 8
        assert (house.generation("g"), [m.rebalances for m in members]) == (generation, rebalances)
        for member in members:
            member.consumer.close()


def test_aiokafka_members_share_and_commit() -> None:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import OffsetAndMetadata, TopicPartition

    async def drive(house: Served) -> None:
        def consumer() -> Any:
            return AIOKafkaConsumer(
                TOPIC,
                bootstrap_servers=house.bootstrap,
                group_id="g",
                enable_auto_commit=False,
                heartbeat_interval_ms=200,
                session_timeout_ms=8_000,
            )

        async with consumer() as first, consumer() as second:
            for _ in range(DEADLINE_SECONDS * 20):
                if len(first.assignment()) == len(second.assignment()) == 2:
                    break
                await asyncio.sleep(0.05)
            assert not first.assignment() & second.assignment()
            partition = min(first.assignment(), key=lambda found: found.partition)
            await first.commit({partition: OffsetAndMetadata(5, "note")})
            assert await first.committed(TopicPartition(TOPIC, partition.partition)) == 5

    with served() as house:
        asyncio.run(drive(house))
        (stored,) = [stored for _, stored in house.machine.offsets("g")]
        assert (stored.offset, stored.metadata) == (5, "note")


@pytest.mark.filterwarnings("ignore:.* is deprecated. Use files:DeprecationWarning")
def test_kafka_python_joins_commits_and_describes() -> None:
    from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition

    with served() as house:
        consumer = KafkaConsumer(
            TOPIC,
            bootstrap_servers=house.bootstrap,
            group_id="g",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=8_000,
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(consumer.assignment()) != PARTITIONS:
            consumer.poll(timeout_ms=50)
            assert time.monotonic() < deadline
        consumer.commit({TopicPartition(TOPIC, 1): OffsetAndMetadata(9, "n", -1)})
        assert consumer.committed(TopicPartition(TOPIC, 1)) == 9
        admin = KafkaAdminClient(bootstrap_servers=house.bootstrap)
        described = msgspec.to_builtins(admin.describe_groups(["g"]), enc_hook=str)
        assert "Stable" in str(described)
        consumer.close()
        admin.close()
        assert house.generation("g") == 2
