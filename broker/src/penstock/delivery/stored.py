"""How queue groups stand in a snapshot: sorted, and with open messages that are alike as one row, so that equal states give
equal bytes whether a replica applied every entry or began with another's snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from penstock.delivery.messages import DeadLetter, Open
from penstock.delivery.queue import Queue
from penstock.delivery.settled import ChunkRow, SettledSet
from penstock.model.snapshots import encode_list


class StoredOutbox(msgspec.Struct, array_like=True):
    """A dead-letter topic of a group: the number that comes next, and what is on its way."""

    dead_topic: str
    next_sequence: int
    letters: list[DeadLetter]


class StoredGroup(msgspec.Struct, array_like=True):
    """What a group has beside its queues."""

    name: str
    producer_id: int | None
    outboxes: list[StoredOutbox]


class _StoredQueue(msgspec.Struct, array_like=True):
    group: str
    topic: str
    partition: int
    floor: int
    fresh_from: int
    settled: list[ChunkRow]
    messages: list[tuple[int, int, Open]]


class _EncodedQueue(msgspec.Struct, array_like=True):
    group: str
    topic: str
    partition: int
    floor: int
    fresh_from: int
    settled: list[ChunkRow]
    messages: msgspec.Raw


class _State(msgspec.Struct):
    version: int
    groups: list[StoredGroup]
    queues: list[_StoredQueue]


class _EncodedState(msgspec.Struct):
    version: int
    groups: msgspec.Raw
    queues: msgspec.Raw


class _Version(msgspec.Struct):
    version: int


class FrozenQueue(NamedTuple):
    """A queue as of a moment, for another thread."""

    group: str
    topic: str
    partition: int
    fresh_from: int
    settled: SettledSet
    messages: dict[int, Open]


def frozen(queue: Queue) -> FrozenQueue:
    """Copies no message, only where they are."""
    return FrozenQueue(
        queue.group,
        queue.topic,
        queue.partition,
        queue.fresh_from,
        queue.settled.copy(),
        dict(queue.messages),
    )


def encode_state(version: int, groups: Sequence[StoredGroup], queues: Sequence[FrozenQueue]) -> bytes:
    """The snapshot; `groups` come sorted."""
    rows = (
        _EncodedQueue(
            queue.group,
            queue.topic,
            queue.partition,
            queue.settled.floor,
            queue.fresh_from,
            queue.settled.rows(),
            encode_list(_runs(queue.messages)),
        )
        for queue in sorted(queues, key=lambda queue: queue[:3])
    )
    return msgspec.msgpack.encode(_EncodedState(version, encode_list(groups), encode_list(rows)))


def decode_state(version: int, data: bytes) -> tuple[list[StoredGroup], list[Queue]]:
    """The groups and queues of a snapshot. Raises ValueError on one of a later version."""
    known = msgspec.msgpack.decode(data, type=_Version).version
    if known > version:
        raise ValueError(
            f"The snapshot of queue groups has version {known}, this release reads up to {version}: "
            f"start a release that is at least as new as the one that wrote it."
        )
    state = msgspec.msgpack.decode(data, type=_State)
    return state.groups, [_restored(stored) for stored in state.queues]


def _restored(stored: _StoredQueue) -> Queue:
    queue = Queue(stored.group, stored.topic, stored.partition, stored.floor)
    queue.settled = SettledSet.restored(stored.floor, stored.settled)
    queue.fresh_from = stored.fresh_from
    for first, last, message in stored.messages:
        queue.messages.update(dict.fromkeys(range(first, last + 1), message))
    return queue


def _runs(messages: Mapping[int, Open]) -> Iterator[tuple[int, int, Open]]:
    """(first, last, what they share) of neighbours that are alike."""
    first = last = -1
    alike: Open | None = None
    for offset, message in sorted(messages.items()):
        if alike is not None:
            if offset == last + 1 and (message is alike or message == alike):
                last = offset
                continue
            yield first, last, alike
        first, last, alike = offset, offset, message
    if alike is not None:
        yield first, last, alike
