"""How a life must end once faults are over: one leader, all copies alike, everything promised still there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.codec.records import read_records, split_batches
from penstock.model.errors import ErrorCode
from penstock.service.api import FetchPartition
from penstock.testing.simulated_cluster.broker import CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.clients import TOPIC
from penstock.testing.simulated_cluster.queue_members import check_queue

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.world import World

READING_SECONDS_MAX = 20.0


def is_settled(world: World) -> bool:
    """Whether there is one leader that serves, every broker is a voter, and all have applied the same log."""
    brokers = world.resizing.present
    if world.resizing.under_way or not world.clients.done:
        return False
    if not all(broker.up and not broker.stopping for broker in brokers):
        return False
    # A master that stands still takes itself for one; when it goes on it may have to end.
    if any(broker.loop is None or broker.loop.paused_until > world.agenda.now for broker in brokers):
        return False
    leading = [broker for broker in brokers if broker.shard.leading]
    if len(leading) != 1:
        return False
    last = leading[0].shard.log.next_index - 1
    configuration = leading[0].shard.machines.members.configuration
    if set(configuration.voters) != {broker.member.own_member for broker in brokers}:
        return False
    return not configuration.learners and all(
        broker.shard.log.next_index - 1 == last
        and broker.shard.commit_index == last
        and broker.shard.stored_index == last
        for broker in brokers
    )


def check_end(world: World) -> None:
    """Raises Violation unless all is well."""
    leader = next(broker for broker in world.resizing.present if broker.shard.leading)
    for broker in world.resizing.present:
        world.checks.observe(broker)
        _compare(leader, broker)
    task = _begin(leader, world)
    deadline = world.agenda.now + READING_SECONDS_MAX
    while not task.done():
        if world.agenda.now > deadline:
            raise Violation("what was written could not be read back in time")
        world.agenda.run_until(world.agenda.now + 0.1)
    task.result()


def _begin(leader: SimulatedBroker, world: World) -> asyncio.Task[None]:
    assert leader.loop is not None
    with leader.loop.running():
        return leader.loop.create_task(_read_back(leader, world))


def _compare(leader: SimulatedBroker, broker: SimulatedBroker) -> None:
    """Logs, states and partitions are alike, and so is who the members are."""
    counted, in_log = broker.member.replica.core.configuration, broker.shard.configuration_in_log()
    if counted != in_log:
        raise Violation(f"broker {broker.ordinal} counts {counted}, its log says {in_log}")
    last = leader.shard.log.next_index - 1
    first = max(leader.shard.log.first_index, broker.shard.log.first_index)
    digests = [each.shard.log.digest(first, last)() for each in (leader, broker)]
    if digests[0] != digests[1]:
        raise Violation(f"broker {broker.ordinal} holds another log from entry {first} to {last}")
    for own, other in zip(leader.shard.machines.all(), broker.shard.machines.all(), strict=True):
        if own.snapshot() != other.snapshot():
            raise Violation(f"broker {broker.ordinal} holds another state of {own.name}")
    ends = [
        {
            partition.key: (partition.log_start, partition.high_watermark, partition.end_offset)
            for partition in each.shard.table
        }
        for each in (leader, broker)
    ]
    if ends[0] != ends[1]:
        raise Violation(f"broker {broker.ordinal} holds other partitions: {ends[1]}, not {ends[0]}")


async def _read_back(leader: SimulatedBroker, world: World) -> None:
    clients = world.clients
    for number, key in enumerate(clients.keys):
        partition = leader.shard.table.require(TOPIC, number)
        if partition.log_start > clients.trimmed.get(number, 0):
            raise Violation(f"partition {number} begins at {partition.log_start} unasked")
        # As of now: what a slow disk still held up may be committed while this reads.
        values = list(world.checks.values.get(key, []))
        if partition.high_watermark != len(values):
            raise Violation(
                f"partition {number} ends at {partition.high_watermark}, {len(values)} are committed"
            )
        await _check_values(leader, number, values)
    if world.shape.queue_members:
        await check_queue(leader, clients, world.queue_book)
    _, positions = await leader.groups.fetch_offsets(CONTEXT, "g", None)
    found_positions = {position.partition: position.offset for position in positions}
    for number, (offset, tried) in clients.positions.items():
        position = found_positions.get(number, -1)
        if position != offset and position not in tried and not clients.losses:
            raise Violation(
                f"partition {number} has the group's position {position}, {offset} was acknowledged"
            )


async def _check_values(leader: SimulatedBroker, number: int, values: list[bytes]) -> None:
    partition = leader.shard.table.require(TOPIC, number)
    start = -1
    while start != partition.log_start:
        # What was asked for before the clients were done may be removed while this reads.
        start = partition.log_start
        try:
            found = await _read(leader, number, start, len(values))
        except Violation:
            if start == partition.log_start:
                raise
        else:
            if found != values[start:]:
                raise Violation(f"partition {number} is read back with other values than were committed")


async def _read(leader: SimulatedBroker, number: int, offset: int, end: int) -> list[bytes]:
    found: list[bytes] = []
    wanted = end - offset
    while offset < end:
        asked = FetchPartition(TOPIC, number, offset, 10_000)
        (result,) = await leader.data.fetch(CONTEXT, [asked], min_bytes=1, max_bytes=1 << 20, max_wait_ms=0)
        if result.error is not ErrorCode.NONE or not result.records:
            raise Violation(f"partition {number} offset {offset} cannot be read back: {result.error.name}")
        for view in split_batches(memoryview(b"".join(result.records))):
            for record in read_records(view):
                if record.offset == offset:
                    found.append(record.value or b"")
                    offset += 1
                elif record.offset > offset:
                    raise Violation(f"partition {number} offset {offset} is missing")
    # What came after `end` may stand in the last batches.
    return found[:wanted]
