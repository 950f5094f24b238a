"""A span's entries are checked once when they come, and cut to any piece without being read again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.codec.entry import KIND_COMMAND, encode_header
from penstock.raft.configuration import ChangeKind
from penstock.raft.messages import MessageError, Span
from penstock.raft.ready import Piece
from penstock.replication.members import (
    Announcement,
    LeadershipBegan,
    MemberAnnounced,
    MemberChanged,
    ShardRecovered,
)
from penstock.replication.recovery import Recovery
from penstock.runtime.received import ReceivedEntries, check_span, entries_of

PAYLOAD_BYTES_MAX = 1000
FIRST = 7


def entry(index: int, epoch: int, size: int) -> bytes:
    payload = bytes([index % 256]) * size
    return encode_header(index, epoch, KIND_COMMAND, 0, (payload,), 0) + payload


def span_of(epochs: list[int]) -> Span:
    runs = [
        (epoch, FIRST + number)
        for number, epoch in enumerate(epochs)
        if number == 0 or epochs[number - 1] != epoch
    ]
    return Span(FIRST, FIRST + len(epochs) - 1, tuple(runs))


def bytes_of(epochs: list[int]) -> list[bytes]:
    return [entry(FIRST + number, epoch, 3 * number) for number, epoch in enumerate(epochs)]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=8).map(sorted), st.data())
def test_any_piece_has_its_own_entries(epochs: list[int], data: st.DataObject) -> None:
    entries = bytes_of(epochs)
    span = span_of(epochs)
    whole = check_span(span, memoryview(b"".join(entries)), PAYLOAD_BYTES_MAX)
    first = data.draw(st.integers(span.first, span.last))
    last = data.draw(st.integers(first, span.last))
    found = entries_of(Piece(whole, span.first, last), first)
    assert bytes(found.data) == b"".join(entries[first - FIRST : last - FIRST + 1])
    assert [header.log_index for header in found.headers] == list(range(first, last + 1))


def test_a_whole_span_is_handed_on_as_it_is() -> None:
    span = span_of([1, 1])
    whole = check_span(span, memoryview(b"".join(bytes_of([1, 1]))), PAYLOAD_BYTES_MAX)
    assert entries_of(Piece(whole, span.first, span.last), span.first) is whole.payload
    assert isinstance(whole.payload, ReceivedEntries)


def test_changes_of_the_members_are_found_in_the_entries() -> None:
    """Whatever the leader says of them: one that was started again does not know of those that its checkpoint covers."""
    recovery = Recovery(1, "lineage", 3, "broker-1", 2, 40, 2, 40, 0)
    commands = [
        LeadershipBegan(1, 0),
        MemberChanged(ChangeKind.VOTER, 2),
        MemberAnnounced(Announcement(1, 0, "", "members.changed", "", {})),
        ShardRecovered(recovery),
        MemberChanged(ChangeKind.REMOVE, 1),
    ]
    entries = []
    for number, command in enumerate(commands):
        payload = msgspec.msgpack.encode(command)
        entries.append(encode_header(FIRST + number, 1, KIND_COMMAND, 0, (payload,), 0) + payload)
    told = msgspec.structs.replace(span_of([1] * 5), changes=(FIRST,))
    found = check_span(told, memoryview(b"".join(entries)), PAYLOAD_BYTES_MAX)
    assert found.changes == (FIRST + 1, FIRST + 3, FIRST + 4)


@pytest.mark.parametrize(
    ("span", "epochs"),
    [
        (span_of([1, 1, 1]), [1, 1]),
        (span_of([1]), [1, 1]),
        (span_of([1, 2]), [1, 1]),
        (span_of([1, 1]), [1, 2]),
        (Span(FIRST + 1, FIRST + 2, ((1, FIRST + 1),)), [1, 1]),
    ],
    ids=["fewer", "more", "older", "newer", "other places"],
)
def test_entries_that_are_others_than_the_message_says_are_refused(span: Span, epochs: list[int]) -> None:
    with pytest.raises(MessageError):
        check_span(span, memoryview(b"".join(bytes_of(epochs))), PAYLOAD_BYTES_MAX)


def test_a_damaged_entry_is_refused() -> None:
    damaged = bytearray(b"".join(bytes_of([1, 1, 1])))
    damaged[-1] ^= 1
    with pytest.raises(MessageError, match="checksum"):
        check_span(span_of([1, 1, 1]), memoryview(damaged), PAYLOAD_BYTES_MAX)
