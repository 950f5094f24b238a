"""Log entries of queue groups: what was granted, settled, given back, and given up.

Most of them name messages of one partition, as ranges of offsets. They are decided about messages that no other entry in
flight names (`deciding`), so that what an entry says is still so when it is applied. `time_ms` is the leader's clock (ms
since the epoch); how long something lasts stands beside it, because a new leader starts it anew by a clock of its own.
"""

from __future__ import annotations

from typing import ClassVar

from penstock.delivery.ranges import Ranges
from penstock.model.commands import Command

QUEUE_LEVEL = 4
"""The feature level that came with queue groups."""

RELEASED = "released"
REJECTED = "rejected"
EXPIRED = "expired"
"""Why a message was given back. A released one does not count as delivered."""


class QueueCommand(Command, frozen=True):
    """Base of what concerns one partition of one group."""

    feature_level: ClassVar[int] = QUEUE_LEVEL

    group: str
    topic: str
    partition: int
    time_ms: int


class QueuePositionSet(QueueCommand, frozen=True, tag="queue.position"):
    """The group works through the partition from `floor` on: its first start, a reset, a replay. Whatever was leased or
    waited is dropped; dead letters that are on their way still arrive."""

    floor: int


class QueueStartMoved(QueueCommand, frozen=True, tag="queue.start"):
    """The partition begins at `log_start` now: what the group had below it is lost to retention."""

    log_start: int


class QueueGranted(QueueCommand, frozen=True, tag="queue.granted"):
    """A lease: the holder of `lease_id` (never 0) may settle these messages. They count as delivered once more."""

    lease_id: int
    member: str
    duration_ms: int
    ranges: Ranges


class QueueSettled(QueueCommand, frozen=True, tag="queue.settled"):
    """Done with, for ever: acknowledged."""

    ranges: Ranges


class QueueReturned(QueueCommand, frozen=True, tag="queue.returned"):
    """Held no more, and granted again after `delay_ms`. `cause` is RELEASED, REJECTED or EXPIRED."""

    cause: str
    delay_ms: int
    ranges: Ranges


class QueueExtended(QueueCommand, frozen=True, tag="queue.extended"):
    """The leases of these messages last `duration_ms` from now."""

    duration_ms: int
    ranges: Ranges


class QueueDying(QueueCommand, frozen=True, tag="queue.dying"):
    """Given up: settled, and in the outbox of `dead_topic`, the lowest offset as number `first_sequence`. A group's
    numbers of one dead-letter topic have no gaps. `cause` is REJECTED or EXPIRED."""

    cause: str
    dead_topic: str
    first_sequence: int
    ranges: Ranges


class QueueBuried(Command, frozen=True, tag="queue.buried"):
    """The group's dead letters with numbers below `end_sequence` stand in `dead_topic`, committed."""

    feature_level: ClassVar[int] = QUEUE_LEVEL

    group: str
    time_ms: int
    dead_topic: str
    end_sequence: int


class QueueProducerAssigned(Command, frozen=True, tag="queue.producer"):
    """The group's dead letters are written under this producer id, whoever leads."""

    feature_level: ClassVar[int] = QUEUE_LEVEL

    group: str
    time_ms: int
    producer_id: int


class QueueGroupDropped(Command, frozen=True, tag="queue.group.dropped"):
    """Everything about the group is gone."""

    feature_level: ClassVar[int] = QUEUE_LEVEL

    group: str
    time_ms: int


class QueueTopicDropped(Command, frozen=True, tag="queue.topic.dropped"):
    """Every group is through with the topic, because it was deleted."""

    feature_level: ClassVar[int] = QUEUE_LEVEL

    topic: str
    time_ms: int
