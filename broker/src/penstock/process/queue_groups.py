"""The queue groups of a broker, made of its shard and its use-cases."""

from __future__ import annotations

import random
import secrets

from penstock.delivery.machine import QueuesMachine
from penstock.groups.machine import GroupsMachine
from penstock.process.group_ports import LoopClock, ShardQueuePartitions
from penstock.runtime.shard import Shard
from penstock.service.api import DataService, TopicService
from penstock.service.fetching import Fetching, FetchLimits
from penstock.service.queue_outbox import OutboxDoors
from penstock.service.queue_ports import LeaderClock, QueueHouse
from penstock.service.queue_reading import QueueReader
from penstock.service.queue_receipts import LEASE_ID_BITS
from penstock.service.queues import QueueGroups


def make_queues(
    shard: Shard,
    machine: QueuesMachine,
    groups: GroupsMachine,
    clock: LoopClock,
    data: DataService,
    topics: TopicService,
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
        lambda: secrets.randbelow(2**LEASE_ID_BITS - 1) + 1,
        random.SystemRandom().random,
    )
    return QueueGroups(house, OutboxDoors(data, topics, shard.machines.producers))
