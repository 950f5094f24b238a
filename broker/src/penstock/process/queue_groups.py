"""The queue groups of a broker, made of its shard and its use-cases."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

from penstock.delivery.machine import QueuesMachine
from penstock.groups.machine import GroupsMachine
from penstock.process.group_ports import ShardQueuePartitions
from penstock.runtime.shard import Shard
from penstock.service.api import DataService, TopicService
from penstock.service.fetching import Fetching, FetchLimits
from penstock.service.ports import Clock
from penstock.service.queue_outbox import OutboxDoors
from penstock.service.queue_ports import LeaderClock, QueueHouse
from penstock.service.queue_reading import QueueReader
from penstock.service.queue_receipts import LEASE_ID_BITS
from penstock.service.queues import QueueGroups


def _new_lease_id() -> int:
    return secrets.randbelow(2**LEASE_ID_BITS - 1) + 1


def make_queues(
    shard: Shard,
    machine: QueuesMachine,
    groups: GroupsMachine,
    clock: Clock,
    data: DataService,
    topics: TopicService,
    new_lease_id: Callable[[], int] = _new_lease_id,
    chance: Callable[[], float] = random.random,
) -> QueueGroups:
    """The use-cases of queue groups on one shard."""
    house = QueueHouse(
        machine,
        groups,
        shard,
        clock,
        LeaderClock(clock),
        ShardQueuePartitions(shard),
        QueueReader(Fetching(shard, FetchLimits())),
        shard.counters.queues,
        new_lease_id,
        chance,
    )
    return QueueGroups(house, OutboxDoors(data, topics, shard.machines.producers))
