"""Idempotent producers: who they are, and which of their batches a partition holds already.

A fold over the log: a batch entry carries producer id, epoch and sequence in its header, so replaying the log gives
the same knowledge on every replica. For each (partition, producer) the last five batches are kept, as many as a
client may have in flight; a retried one is answered with its first offset (KIP-98, KAFKA-5494).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import BatchHeader

BATCHES_REMEMBERED = 5
SEQUENCE_MODULUS = 2**31
PRODUCER_EPOCH_MAX = 2**15 - 1
# A producer id is (shard, counter): the shard in the upper bits, so that shards hand them out without asking.
SHARD_SHIFT = 40

Key = tuple[int, int]
# Producer to (its last base offset, when that was first seen).
SeenProducers = dict[Key, tuple[int, int]]


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

    def idle(self, seen: SeenProducers, now_ms: int, idle_ms: int) -> ProducersExpired | None:
        """The command that forgets producers whose last batch has not changed for `idle_ms`.

        `seen` is kept by the leader alone, between calls: when each was first found with its present last batch. So a
        new leader starts the time anew, and only the command tells other replicas.
        """
        items = []
        for key, state in self._committed.items():
            last = state.batches[-1].base_offset
            known = seen.get(key)
            if known is None or known[0] != last:
                seen[key] = (last, now_ms)
            elif now_ms - known[1] >= idle_ms and key not in self._staged:
                items.append((*key, last))
        for key in [key for key in seen if key not in self._committed]:
            del seen[key]
        return ProducersExpired(tuple(items)) if items else None

    # --- transitions -----------------------------------------------------------------------------

    def stage_batch(self, index: int, partition: int, header: BatchHeader) -> None:
        """A producer's batch was appended."""
        key = (partition, header.producer_id)
        self._staged[key] = _after(self._staged.get(key) or self._committed.get(key), index, header)

    def apply_batch(self, index: int, partition: int, header: BatchHeader) -> None:
        """A producer's batch was committed."""
        key = (partition, header.producer_id)
        staged = self._staged.get(key)
        if staged is not None and staged.batches[-1].log_index == index:
            self._committed[key] = staged
            del self._staged[key]
        else:
            self._committed[key] = _after(self._committed.get(key), index, header)

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

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return msgspec.msgpack.encode(
            _Snapshot(
                self._next_committed,
                [
                    (partition, producer, state.epoch, state.batches)
                    for (partition, producer), state in self._committed.items()
                ],
            )
        )

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
