"""What one scrape shows, as values: taken on the event loop, written out by a thread.

Numbers that only a shard's leader knows (lag of its members, and of the groups that it coordinates) are there on the
leader alone: absent, and not zero, everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.telemetry.counters import Counters

DISK_STATES: Final = ("ok", "warn", "refuse")


class TopicSample(NamedTuple):
    """One topic's numbers, as of this broker's copy."""

    name: str
    partitions: int
    messages: int
    bytes: int


class GroupSample(NamedTuple):
    """One group's numbers. `lag_seconds` is the age of the oldest message that it has not read: 0 when it has read all,
    None where that is not known; `open` what a queue group has in flight, None for another one."""

    name: str
    state: str
    members: int
    lag: int
    lag_seconds: float | None = None
    open: int | None = None


class MemberSample(NamedTuple):
    """What a member of the shard lacks of the leader's log."""

    name: str
    lag_entries: int
    lag_bytes: int


class MembersSample(NamedTuple):
    """The shard's members as its leader sees them: how many there are, are in sync, and are to be; and those that follow."""

    members: int
    in_sync: int
    wanted: int
    followers: Sequence[MemberSample]


class QueueSample(NamedTuple):
    """What waits. `limit` is None where nothing of its own bounds it."""

    name: str
    unit: Literal["items", "bytes"]
    length: int
    limit: int | None


class BrokerSample(NamedTuple):
    """The broker's own numbers. `disk_state` is one of DISK_STATES; `members` is None where this broker does not lead."""

    name: str
    node_id: int
    version: str
    ready: bool
    epoch: int
    started_at_ms: int
    log_bytes: int
    log_last_index: int
    log_commit_index: int
    disk_total_bytes: int
    disk_used_bytes: int
    disk_state: str
    feature_level: int = 0
    leads: bool = False
    leader_known: bool = False
    members: MembersSample | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """What is gathered in slices: `groups` is empty where another broker coordinates them."""

    topics: Sequence[TopicSample] = ()
    groups: Sequence[GroupSample] = ()
    queues: Sequence[QueueSample] = ()


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """Everything that one scrape shows, owned by the thread that writes it out."""

    counters: Counters
    broker: BrokerSample
    samples: Samples


@dataclass(frozen=True, slots=True)
class Queue:
    """Something in which requests, entries or bytes wait. Several of one name are shown as their sum."""

    name: str
    unit: Literal["items", "bytes"]
    length: Callable[[], int]
    limit: int | None = None


def queue_samples(queues: Sequence[Queue]) -> list[QueueSample]:
    """The queues as they are now, each name once."""
    found: dict[tuple[str, Literal["items", "bytes"]], QueueSample] = {}
    for queue in queues:
        key = (queue.name, queue.unit)
        before = found.get(key)
        length, limit = queue.length(), queue.limit
        if before is not None:
            length += before.length
            limit = None if limit is None or before.limit is None else limit + before.limit
        found[key] = QueueSample(*key, length, limit)
    return list(found.values())
