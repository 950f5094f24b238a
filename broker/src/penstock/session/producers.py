"""Idempotent producers: who they are, and which of their batches a partition holds already.

A fold over the log: a batch entry carries producer id, epoch and sequence in its header, so replaying the log gives
the same knowledge on every replica. For each (partition, producer) the last five batches are kept, as many as a
client may have in flight; a retried one is answered with its first offset (KIP-98, KAFKA-5494). Producers are kept in
the order of their last batch, so that finding those to forget costs only what is found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import BatchHeader
from penstock.model.snapshots import encode_list

BATCHES_REMEMBERED = 5
SEQUENCE_MODULUS = 2**31
# A producer id is (shard, counter): the shard in the upper bits, so that shards hand them out without asking.
SHARD_SHIFT = 40
# (partition, producer) pairs that are remembered; beyond it those that have not written for longest are forgotten.
PRODUCERS_MAX = 200_000
# Producers that one command forgets, which bounds the size of a log entry.
EXPIRED_PER_COMMAND_MAX = 10_000
# Moments that a `WriteTimes` keeps: idle times are exact to this part of the time after which a producer is forgotten.
WRITE_TIMES_MAX = 200

Key = tuple[int, int]


class ProducedBatch(NamedTuple):
    """One remembered batch: its first and last sequence, its first offset, the index of its entry."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    log_index: int


class ProducerState(NamedTuple):
    """What one partition knows of one producer; batches from old to new."""

    epoch: int
    batches: tuple[ProducedBatch, ...]


class ProducerIdAllocated(Command, frozen=True, tag="producer.allocated"):
    """The counter part of producer ids below this one is taken."""

    next_counter: int


class ProducersExpired(Command, frozen=True, tag="producer.expired"):
    """(partition key, producer id, last offset): forgotten unless they wrote beyond that offset since."""

    items: tuple[tuple[int, int, int], ...]


class PartitionProducersDropped(Command, frozen=True, tag="producer.dropped"):
    """The partitions are gone and so is what they knew."""

    keys: tuple[int, ...]


class _Snapshot(msgspec.Struct):
    next_counter: int
    producers: list[tuple[int, int, int, tuple[ProducedBatch, ...]]]


class _EncodedSnapshot(msgspec.Struct):
    next_counter: int
    producers: msgspec.Raw


class WriteTimes:
    """Which log index was committed when, by the leader's own clock. So a new leader starts idle times anew, and only the
    command that forgets a producer tells other replicas."""

    def __init__(self) -> None:
        self._moments: deque[tuple[int, int]] = deque()

    def note(self, now_ms: int, index: int, idle_ms: int) -> int:
        """Notes that everything up to `index` is committed now; returns the index up to which everything has been for
        `idle_ms`, 0 while that is not known."""
        moments = self._moments
        if not moments or now_ms - moments[-1][0] >= idle_ms / WRITE_TIMES_MAX:
            moments.append((now_ms, index))
        while len(moments) > 1 and now_ms - moments[1][0] >= idle_ms:
            moments.popleft()
        moment, idle_index = moments[0]
        return idle_index if now_ms - moment >= idle_ms else 0


class ProducerSessions:
    """All producers of a shard; a `StateMachine` that is also told of batches."""

    name = "producers"
    version = 1
    commands: tuple[type[Command], ...] = (ProducerIdAllocated, ProducersExpired, PartitionProducersDropped)

    def __init__(self, shard: int = 0) -> None:
        self._shard = shard
        self._committed: dict[Key, ProducerState] = {}
        self._staged: dict[Key, ProducerState] = {}
        self._next_committed = 1
        self._next_staged = 1

    # --- decisions -------------------------------------------------------------------------------

    def decide_allocate(self) -> tuple[int, ProducerIdAllocated]:
        """A new producer id and the command that takes it."""
        counter = max(self._next_staged, self._next_committed)
        return (self._shard << SHARD_SHIFT) | counter, ProducerIdAllocated(counter + 1)

    def check(self, partition: int, header: BatchHeader) -> ProducedBatch | None:
        """None for a batch that comes next; the remembered one for a retry that was appended before.

        Raises PenstockError (INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER). A producer that the partition
        does not know may begin with any sequence: its state may have expired here (KIP-360).
        """
        key = (partition, header.producer_id)
        state = self._staged.get(key) or self._committed.get(key)
        if state is None:
            return None
        if header.producer_epoch < state.epoch:
            raise PenstockError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {header.producer_id} has epoch {state.epoch} by now; epoch {header.producer_epoch} is fenced",
            )
        first = header.base_sequence
        if header.producer_epoch > state.epoch:
            if first != 0:
                raise PenstockError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {header.producer_id} begins epoch {header.producer_epoch} with sequence {first}, not with 0",
                )
            return None
        last = last_sequence(first, header.record_count)
        for batch in state.batches:
            if batch.first_sequence == first and batch.last_sequence == last:
                return batch
        expected = next_sequence(state.batches[-1].last_sequence)
        if first != expected:
            raise PenstockError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {header.producer_id} sent sequence {first} where {expected} comes next",
            )
        return None

    def decide_expire(self, idle_index: int, producers_max: int = PRODUCERS_MAX) -> list[ProducersExpired]:
        """The commands that forget producers whose last batch is not after `idle_index`, and the longest silent ones of
        more than `producers_max`."""
        items: list[tuple[int, int, int]] = []
        excess = len(self._committed) - producers_max
        for number, (key, state) in enumerate(self._committed.items()):
            last = state.batches[-1]
            if last.log_index > idle_index and number >= excess:
                break
            if key not in self._staged:
                items.append((*key, last.base_offset))
        return [
            ProducersExpired(tuple(items[start : start + EXPIRED_PER_COMMAND_MAX]))
            for start in range(0, len(items), EXPIRED_PER_COMMAND_MAX)
        ]

    # --- transitions -----------------------------------------------------------------------------

    def stage_batch(self, index: int, partition: int, header: BatchHeader) -> None:
        """A producer's batch was appended."""
        key = (partition, header.producer_id)
        self._staged[key] = _after(self._staged.get(key) or self._committed.get(key), index, header)

    def apply_batch(self, index: int, partition: int, header: BatchHeader) -> None:
        """A producer's batch was committed."""
        key = (partition, header.producer_id)
        # Always from what is committed: what was staged may remember batches that an expiry has forgotten since, and
        # replicas that stage nothing must come to the same state. Taken out and put back, it moves to the end.
        self._committed[key] = _after(self._committed.pop(key, None), index, header)
        staged = self._staged.get(key)
        if staged is not None and staged.batches[-1].log_index <= index:
            del self._staged[key]

    def stage(self, index: int, command: Command) -> None:
        """See `StateMachine.stage`."""
        if isinstance(command, ProducerIdAllocated):
            self._next_staged = max(self._next_staged, command.next_counter)

    def apply(self, index: int, command: Command) -> None:
        """See `StateMachine.apply`."""
        match command:
            case ProducerIdAllocated(next_counter=counter):
                self._next_committed = max(self._next_committed, counter)
            case ProducersExpired(items=items):
                for partition, producer, offset in items:
                    state = self._committed.get((partition, producer))
                    if state is not None and state.batches[-1].base_offset <= offset:
                        del self._committed[(partition, producer)]
            case PartitionProducersDropped(keys=keys):
                gone = set(keys)
                for key in [key for key in self._committed if key[0] in gone]:
                    del self._committed[key]
            case _:
                raise TypeError(f"the producers do not know {type(command).__name__}")

    def drop_staged(self) -> None:
        """See `StateMachine.drop_staged`."""
        self._staged.clear()
        self._next_staged = self._next_committed

    def __len__(self) -> int:
        return len(self._committed)

    @property
    def staged_count(self) -> int:
        """Number of (partition, producer) pairs with a batch that is not committed."""
        return len(self._staged)

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return self.freeze()()

    def freeze(self) -> Callable[[], bytes]:
        """See `StateMachine.freeze`."""
        next_counter = self._next_committed
        # Two lists: a pair for each of them would be so many new objects, and a garbage collection or more, at once.
        keys, states = list(self._committed), list(self._committed.values())

        def encode() -> bytes:
            rows = ((*key, state.epoch, state.batches) for key, state in zip(keys, states, strict=True))
            return msgspec.msgpack.encode(_EncodedSnapshot(next_counter, encode_list(rows)))

        return encode

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_Snapshot)
        self._next_committed = state.next_counter
        self._committed = {
            (partition, producer): ProducerState(epoch, batches)
            for partition, producer, epoch, batches in state.producers
        }
        self.drop_staged()


def _after(state: ProducerState | None, index: int, header: BatchHeader) -> ProducerState:
    batch = ProducedBatch(
        header.base_sequence,
        last_sequence(header.base_sequence, header.record_count),
        header.base_offset,
        index,
    )
    if state is None or state.epoch != header.producer_epoch:
        return ProducerState(header.producer_epoch, (batch,))
    return ProducerState(state.epoch, (*state.batches[1 - BATCHES_REMEMBERED :], batch))


def last_sequence(first: int, records: int) -> int:
    """Sequences wrap from 2^31 - 1 to 0."""
    return (first + records - 1) % SEQUENCE_MODULUS


def next_sequence(last: int) -> int:
    """The sequence after `last`."""
    return (last + 1) % SEQUENCE_MODULUS
