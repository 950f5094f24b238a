"""Entries between the log's end and what is committed: a queue that is taken from in front and cut from behind."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.catalog.topics import Catalog
from penstock.codec.entry import KIND_BATCH, EntryHeader
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.record_batch import parse_header
from penstock.raft.configuration import ChangeKind
from penstock.replication.members import Announcement, MemberAnnounced, MemberChanged, Members, member_id
from penstock.runtime.command_codec import CommandCodec
from penstock.runtime.in_flight import (
    BatchInFlight,
    CommandInFlight,
    EntryInFlight,
    InFlight,
    batch_in_flight,
)
from penstock.session.producers import ProducerSessions

PARTITION = 5


def announced(number: int) -> MemberAnnounced:
    member = member_id(uuid.UUID(int=number << 65))
    return MemberAnnounced(Announcement(member, number, "", f"b{number}", "test", {}))


def change(number: int) -> MemberChanged:
    return MemberChanged(ChangeKind.LEARNER, number)


def entry(index: int, kind: str) -> EntryInFlight:
    if kind == "batch":
        return BatchInFlight(index, PARTITION, index * 10, None)
    return CommandInFlight(index, change(index) if kind == "change" else announced(index))


class TheQueue(RuleBasedStateMachine):
    """Against a list of the log's uncommitted entries."""

    @initialize(committed=st.integers(0, 3))
    def begin(self, committed: int) -> None:
        self.in_flight = InFlight()
        self.expected: list[EntryInFlight] = []
        self.committed, self.last = committed, committed

    @rule(kind=st.sampled_from(["batch", "command", "change"]))
    def add(self, kind: str) -> None:
        self.last += 1
        added = entry(self.last, kind)
        self.in_flight.add(added)
        self.expected.append(added)

    @rule(count=st.integers(0, 5))
    def commit(self, count: int) -> None:
        self.committed = min(self.committed + count, self.last)
        taken = list(self.in_flight.pop_committed(self.committed))
        assert taken == [each for each in self.expected if each.index <= self.committed]
        self.expected = self.expected[len(taken) :]

    @rule(count=st.integers(0, 5))
    def commit_again_what_is_committed(self, count: int) -> None:
        assert list(self.in_flight.pop_committed(self.committed - count)) == []

    @rule(count=st.integers(0, 5))
    def truncate(self, count: int) -> None:
        self.last = max(self.last - count, self.committed)
        self.in_flight.truncate(self.last + 1)
        self.expected = [each for each in self.expected if each.index <= self.last]

    @rule()
    def clear(self) -> None:
        self.in_flight.clear()
        self.expected = []

    @invariant()
    def it_holds_what_is_not_committed(self) -> None:
        if hasattr(self, "in_flight"):
            assert len(self.in_flight) == len(self.expected)
            assert list(self.in_flight.changes()) == [
                (each.index, each.command)
                for each in self.expected
                if isinstance(each, CommandInFlight) and isinstance(each.command, MemberChanged)
            ]


TheQueue.TestCase.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
test_it_is_a_queue_by_index = TheQueue.TestCase


def test_what_is_committed_is_taken_one_by_one() -> None:
    """Whoever applies an entry and cannot go on leaves the others where they are."""
    in_flight = InFlight()
    for index in (1, 2, 3):
        in_flight.add(entry(index, "command"))
    assert next(in_flight.pop_committed(3)).index == 1
    assert len(in_flight) == 2
    assert [each.index for each in in_flight.pop_committed(2)] == [2]


# --- batches --------------------------------------------------------------------------------------


def kept(**options: int) -> tuple[BatchInFlight, int]:
    data = build_batch([Record(value=b"a"), Record(value=b"b")], 70, BatchOptions(**options))  # type: ignore[arg-type]
    header = EntryHeader(0, 0, len(data), 12, 3, KIND_BATCH, 1, 0, PARTITION)
    return batch_in_flight(header, memoryview(data))


def test_of_a_batch_only_its_place_is_kept() -> None:
    assert kept() == (BatchInFlight(12, PARTITION, 72, None), 70)


@pytest.mark.parametrize("producer_id", [0, 7, 2**62])
def test_of_an_idempotent_producers_batch_its_header_is_kept_too(producer_id: int) -> None:
    batch, base_offset = kept(producer_id=producer_id, producer_epoch=2, base_sequence=30)
    assert (batch.index, batch.partition, batch.end_offset, base_offset) == (12, PARTITION, 72, 70)
    assert batch.header is not None
    assert (batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence) == (
        producer_id,
        2,
        30,
    )


# --- beginning to lead ----------------------------------------------------------------------------


def test_who_begins_to_lead_decides_on_everything_that_is_in_flight() -> None:
    members, catalog, producers = Members(), Catalog(), ProducerSessions()
    codec = CommandCodec([members, catalog, producers])
    in_flight = InFlight()
    first, last = announced(1), announced(1)
    in_flight.add(CommandInFlight(11, first))
    batch, _ = kept(producer_id=9, producer_epoch=1, base_sequence=4)
    in_flight.add(batch)
    in_flight.add(BatchInFlight(13, PARTITION, 99, None))
    renamed = MemberAnnounced(
        Announcement(last.announcement.member, 1, "", "renamed", "test", {"kafka": "h:1"})
    )
    in_flight.add(CommandInFlight(14, renamed))
    in_flight.stage(codec, producers)
    assert members.announcements.get(last.announcement.member) == renamed.announcement
    assert members.announcements.committed == {}
    header = parse_header(
        build_batch(
            [Record(value=b"a"), Record(value=b"b")],
            70,
            BatchOptions(producer_id=9, producer_epoch=1, base_sequence=4),
        )
    )
    # The producer's batch is known, so a retry of it is not written again.
    known = producers.check(PARTITION, header)
    assert known is not None
    assert (known.base_offset, known.log_index) == (70, 12)
    assert len(in_flight) == 4
