"""The protocol's own words on three brokers: who leads, epochs, acknowledgements, refusals without a majority."""

from __future__ import annotations

import asyncio
import itertools
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from client_peer import create_topic
from penstock.codec.kafka.generated.metadata import MetadataRequestTopic
from penstock.codec.kafka.generated.offset_for_leader_epoch import (
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from penstock.model.errors import ErrorCode
from penstock.testing.kafka_wire import KafkaWire, batch_of, to_fetch, to_produce
from penstock.testing.wire_probe import end_offsets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from penstock.testing.shard_processes import ShardProcesses

pytestmark = pytest.mark.clients

PRODUCE, METADATA, EPOCH_END, FETCH = 9, 12, 4, 12
ALL, LEADER, NOBODY = -1, 1, 0
# Far below the election timeout, in which a leader that hears nobody still leads.
PATIENCE_S = 0.3
WITHOUT_MAJORITY_S = 5.0
# All of them are retriable, and none is given for something that was written.
REFUSALS = {ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.NOT_LEADER_OR_FOLLOWER}
_numbers = itertools.count()


@asynccontextmanager
async def wire_to(shard: ShardProcesses, ordinal: int) -> AsyncIterator[KafkaWire]:
    host, _, port = shard.brokers[ordinal].kafka.rpartition(":")
    wire = await KafkaWire.connect((host, int(port)))
    try:
        yield wire
    finally:
        await wire.close()


async def metadata(shard: ShardProcesses, ordinal: int, topic: str) -> Any:
    async with wire_to(shard, ordinal) as wire:
        return await wire.ask("Metadata", METADATA, topics=[MetadataRequestTopic(name=topic)])


async def produce(wire: KafkaWire, topic: str, acks: int, timeout_ms: int = 10_000) -> tuple[int, int]:
    """(error, offset) of one message."""
    data = to_produce(topic, batch_of(b"value"))
    answer = await wire.ask("Produce", PRODUCE, acks=acks, timeout_ms=timeout_ms, topic_data=data)
    partition = answer.responses[0].partition_responses[0]
    return partition.error_code, partition.base_offset


async def test_every_broker_tells_who_leads_and_where_all_are(shard: ShardProcesses) -> None:
    topic, leader = create_topic(shard.kafka, 2), shard.leader()
    for ordinal in range(shard.replicas):
        told = await metadata(shard, ordinal, topic)
        addresses = {broker.node_id: f"{broker.host}:{broker.port}" for broker in told.brokers}
        assert addresses == {number: shard.brokers[number].kafka for number in range(shard.replicas)}
        assert told.controller_id == leader
        for partition in told.topics[0].partitions:
            assert partition.leader_id == leader
            assert partition.replica_nodes == partition.isr_nodes == [0, 1, 2]
            assert partition.offline_replicas == []
        async with wire_to(shard, ordinal) as wire:
            cluster = await wire.ask("DescribeCluster", 0)
        assert {broker.broker_id for broker in cluster.brokers} == {0, 1, 2}
        assert cluster.controller_id == leader


async def test_a_broker_that_is_gone_is_out_of_the_in_sync_set(shard: ShardProcesses) -> None:
    topic, leader = create_topic(shard.kafka, 1), shard.leader()
    gone = shard.followers()[0]
    shard.kill(gone)
    shard.wait_until(lambda: gone not in shard.view(leader).in_sync, "smaller in-sync set")
    partition = (await metadata(shard, leader, topic)).topics[0].partitions[0]
    assert partition.replica_nodes == [0, 1, 2]
    assert partition.isr_nodes == sorted({0, 1, 2} - {gone})
    assert partition.offline_replicas == [gone]
    async with wire_to(shard, leader) as wire:
        assert (await produce(wire, topic, ALL))[0] == ErrorCode.NONE


async def test_epochs_rise_and_their_ends_are_known_to_the_next_leader(shard: ShardProcesses) -> None:
    topic, leader = create_topic(shard.kafka, 1), shard.leader()
    before = (await metadata(shard, leader, topic)).topics[0].partitions[0].leader_epoch
    async with wire_to(shard, leader) as wire:
        for offset in range(3):
            assert await produce(wire, topic, ALL) == (ErrorCode.NONE, offset)
    shard.kill(leader)
    successor = shard.leader(other_than=leader)
    after = (await metadata(shard, successor, topic)).topics[0].partitions[0]
    assert after.leader_id == successor
    assert after.leader_epoch > before
    async with wire_to(shard, successor) as wire:
        assert await produce(wire, topic, ALL) == (ErrorCode.NONE, 3)
        assert await _epoch_end(wire, topic, after.leader_epoch, before) == (before, 3)
        assert await _epoch_end(wire, topic, after.leader_epoch, after.leader_epoch) == (
            after.leader_epoch,
            4,
        )
        # Who still believes in the former leader is told so.
        assert await _epoch_end(wire, topic, before, before) == ErrorCode.FENCED_LEADER_EPOCH
    (other,) = set(range(shard.replicas)) - {leader, successor}
    async with wire_to(shard, other) as wire:
        assert await _epoch_end(wire, topic, after.leader_epoch, before) == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def _epoch_end(wire: KafkaWire, topic: str, current: int, epoch: int) -> tuple[int, int] | int:
    asked = OffsetForLeaderPartition(partition=0, current_leader_epoch=current, leader_epoch=epoch)
    answer = await wire.ask(
        "OffsetForLeaderEpoch", EPOCH_END, topics=[OffsetForLeaderTopic(topic=topic, partitions=[asked])]
    )
    found = answer.topics[0].partitions[0]
    return (found.leader_epoch, found.end_offset) if not found.error_code else int(found.error_code)


async def test_what_acks_wait_for(shard: ShardProcesses) -> None:
    topic, leader = create_topic(shard.kafka, 1), shard.leader()
    followers = shard.followers()
    async with wire_to(shard, leader) as first, wire_to(shard, leader) as second:
        assert await produce(first, topic, ALL) == (ErrorCode.NONE, 0)
        for follower in followers:
            shard.pause(follower)
        try:
            assert await produce(first, topic, LEADER) == (ErrorCode.NONE, 1), "the leader's log holds it"
            waiting = asyncio.create_task(produce(second, topic, ALL))
            done, _ = await asyncio.wait([waiting], timeout=PATIENCE_S)
            assert not done, "acks=all was answered without a majority"
            answer = await first.ask("Fetch", FETCH, max_bytes=1 << 20, topics=to_fetch(topic, 0))
            assert answer.responses[0].partitions[0].high_watermark == 1, "nothing uncommitted is read"
        finally:
            for follower in followers:
                shard.resume(follower)
        assert await waiting == (ErrorCode.NONE, 2)
        data = to_produce(topic, batch_of(b"value"))
        await first.send(first.frame("Produce", PRODUCE, acks=NOBODY, timeout_ms=1000, topic_data=data))
        # The next answer on this connection is not the one to acks=0, which has none.
        assert await produce(first, topic, ALL) == (ErrorCode.NONE, 4)


async def test_without_a_majority_everything_is_refused_and_nothing_acknowledged(
    shard: ShardProcesses,
) -> None:
    topic, leader = create_topic(shard.kafka, 1), shard.leader()
    async with wire_to(shard, leader) as wire:
        assert await produce(wire, topic, ALL) == (ErrorCode.NONE, 0)
        for follower in shard.followers():
            shard.kill(follower)
        assert (await produce(wire, topic, ALL))[0] in {*REFUSALS, ErrorCode.REQUEST_TIMED_OUT}
        # acks=1 is refused as well from the moment in which the leader knows: nothing uncommitted may pile up.
        deadline = asyncio.get_running_loop().time() + WITHOUT_MAJORITY_S
        while (await produce(wire, topic, LEADER))[0] not in REFUSALS:
            assert asyncio.get_running_loop().time() < deadline, "acks=1 goes on without a majority"
        for acks in (ALL, LEADER):
            assert (await produce(wire, topic, acks))[0] in REFUSALS
    # It refuses as soon as too few copies are in sync, and steps down when nobody has answered for an election timeout.
    shard.wait_until(lambda: not shard.is_ready(leader), "leader that says that it is not ready")
    shard.start()
    ends = end_offsets(shard.brokers[shard.leader()].kafka, topic, 1)
    async with wire_to(shard, shard.leader()) as wire:
        assert await produce(wire, topic, ALL) == (ErrorCode.NONE, ends[0])


async def test_a_follower_passes_on_what_any_broker_may_be_asked(shard: ShardProcesses) -> None:
    ids = []
    for ordinal in [*range(shard.replicas)] * 2:
        async with wire_to(shard, ordinal) as wire:
            answer = await wire.ask("InitProducerId", 4, transactional_id=None)
        assert answer.error_code == ErrorCode.NONE
        ids.append(answer.producer_id)
    assert len(set(ids)) == len(ids), ids
    topic = create_topic(shard.kafka, 1)
    async with wire_to(shard, shard.followers()[0]) as wire:
        assert (await produce(wire, topic, ALL))[0] == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_requests_in_the_middle_of_an_election_wait_for_its_end(shard: ShardProcesses) -> None:
    """Whoever wins it, and whichever broker was asked. One that has not noticed the leader's end still names it."""
    topic, leader = create_topic(shard.kafka, 1), shard.leader()
    epoch = shard.view(leader).epoch
    survivors = shard.followers()

    async def told(wire: KafkaWire) -> tuple[int, int]:
        while True:
            answer = await wire.ask("Metadata", METADATA, topics=[MetadataRequestTopic(name=topic)])
            (partition,) = answer.topics[0].partitions
            if partition.leader_id != leader:
                return partition.leader_id, partition.leader_epoch

    async def given(wire: KafkaWire) -> int:
        while True:
            answer = await wire.ask("InitProducerId", 4, transactional_id=None)
            if answer.error_code == ErrorCode.NONE:
                return int(answer.producer_id)
            assert answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "passed on to who ended"

    async with AsyncExitStack() as stack, asyncio.timeout(10):
        wires = [
            await stack.enter_async_context(wire_to(shard, ordinal))
            for ordinal in survivors
            for _ in range(2)
        ]
        shard.brokers[leader].send_signal(signal.SIGKILL)
        leaders, ids = await asyncio.gather(
            asyncio.gather(*map(told, wires[::2])), asyncio.gather(*map(given, wires[1::2]))
        )
    for number, newer in leaders:
        assert number in survivors
        assert newer > epoch
    assert len(set(ids)) == len(survivors)
    shard.kill(leader)
