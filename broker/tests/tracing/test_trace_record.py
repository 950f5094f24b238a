"""What is written of a span, and that nothing which is read can do harm: damaged, hostile, or of a release to come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.tracing import attributes as names
from penstock.tracing.derived import derived_offset, derived_trace_id
from penstock.tracing.record import (
    EVENTS_MAX,
    RECORD_BYTES_MAX,
    TEXT_MAX,
    RecordError,
    TraceRecord,
    read_record,
    trace_key,
    write_record,
)
from penstock.tracing.span import Attribute, Event, Kind, Span

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
AT = 1_795_262_400_000_000_000


def span(**attributes: Attribute) -> Span:
    said: dict[str, Attribute] = {
        names.MESSAGING_SYSTEM: names.SYSTEM_KAFKA,
        names.MESSAGING_OPERATION_NAME: names.RECEIVE,
        names.MESSAGING_OPERATION_TYPE: "send",
        names.MESSAGING_DESTINATION_NAME: "orders",
        names.MESSAGING_DESTINATION_PARTITION_ID: "2",
        names.PENSTOCK_SHARD: 0,
        names.MESSAGING_CLIENT_ID: "shop",
        names.PENSTOCK_ACKS: -1,
    }
    return Span(
        "receive orders", Kind.SERVER, TRACE, 0xB7, 0xAD, AT, {**said, **attributes}, end_ns=AT + 3_000_000
    )


def placed() -> Span:
    said = {names.MESSAGING_KAFKA_OFFSET: 7, names.PENSTOCK_LAST_OFFSET: 9, names.PENSTOCK_EPOCH: 4}
    return span(**said)


def test_a_span_comes_back_as_it_went() -> None:
    sent = placed()
    sent.error = "the disk is full"
    sent.events = [Event(names.EVENT_REFUSED, AT + 5, {names.ERROR_TYPE: "KAFKA_STORAGE_ERROR"})]
    key, value, timestamp_ms = write_record(sent, "penstock-0-1")
    assert (key, timestamp_ms) == (b"0af7651916cd43dd8448eb211c80319c", AT // 1_000_000 + 3)
    read = read_record(value)
    assert (read.what, read.span, read.parent) == ("receive", "00000000000000b7", "00000000000000ad")
    assert (read.broker, read.shard, read.topic, read.partition) == ("penstock-0-1", 0, "orders", 2)
    assert (read.offset, read.last, read.epoch) == (7, 9, 4)
    assert (read.start, read.end, read.error) == (AT, AT + 3_000_000, "the disk is full")
    assert read.attributes == {names.MESSAGING_CLIENT_ID: "shop", names.PENSTOCK_ACKS: -1}
    [event] = read.events
    assert (event.name, event.at) == (names.EVENT_REFUSED, AT + 5)
    assert event.attributes == {names.ERROR_TYPE: "KAFKA_STORAGE_ERROR"}


def test_a_batch_that_stands_nowhere_has_no_place_and_may_be_of_any_message_there() -> None:
    read = read_record(write_record(span(), "b").value)
    assert (read.offset, read.last, read.epoch) == (-1, -1, -1)
    assert read.holds("orders", 2, 5)
    assert not read.holds("orders", 1, 5)
    stored = read_record(write_record(placed(), "b").value)
    assert [offset for offset in range(12) if stored.holds("orders", 2, offset)] == [7, 8, 9]
    assert not stored.holds("other", 2, 7)


def test_what_a_client_wrote_is_bounded() -> None:
    sent = span(**{names.MESSAGING_CLIENT_ID: "c" * 40_000})
    sent.error = "e" * 40_000
    sent.events = [Event("n", AT, {"a": "v" * 40_000})] * 100
    read = read_record(write_record(sent, "b").value)
    assert len(read.said(names.MESSAGING_CLIENT_ID)) == len(read.error or "") == TEXT_MAX
    assert len(read.events) == EVENTS_MAX


def test_a_name_that_is_no_text_is_written_all_the_same() -> None:
    read = read_record(write_record(span(**{names.MESSAGING_CLIENT_ID: "a\udcff"}), "b").value)
    assert read.said(names.MESSAGING_CLIENT_ID) == "a?"


def value(**changes: object) -> bytes:
    content = json.loads(write_record(placed(), "b").value)
    return json.dumps({**content, **changes}).encode()


def test_fields_that_another_release_added_are_passed_over() -> None:
    assert read_record(value(later={"any": ["thing"]})) == read_record(value())


@pytest.mark.parametrize(
    ("hostile", "sentence"),
    [
        (None, "empty"),
        (b" " * (RECORD_BYTES_MAX + 1), "too large"),
        (b"", "not an event"),
        (b"\xff\xfe", "not an event"),
        (b"[" * 20_000, "not an event"),
        (b"{}", "not an event"),
        (value(v=2), "of version 2, and this release reads version 1"),
        (value(v="1"), "not an event"),
        (value(start=-1), "not an event"),
        (value(end=10**21), "not an event"),
        (value(end=2**63), "not an event"),
        (value(offset=2**63), "not an event"),
        (value(offset=-2), "not an event"),
        (value(offset=9, last=8), "contradicts itself"),
        (value(span="b7"), "not an event"),
        (value(span="\u0661" * 16), "not an event"),
        (value(topic="t" * 5000), "not an event"),
        (value(topic=None), "not an event"),
        (value(attributes={"a": ["nested"]}), "not an event"),
        (value(events=[{"name": "n", "at": AT}] * (EVENTS_MAX + 1)), "contradicts itself"),
        (value(events=[{"name": "n"}]), "not an event"),
        (value().replace(b'"orders"', b'"\\ud800"'), "not an event"),
    ],
)
def test_what_this_release_would_not_have_written_is_refused(hostile: bytes | None, sentence: str) -> None:
    with pytest.raises(RecordError, match=sentence):
        read_record(hostile)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        read_record(data)


@given(st.data())
def test_no_change_of_a_byte_does_more_than_be_refused(data: st.DataObject) -> None:
    changed = bytearray(value())
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_record(bytes(changed))
    except RecordError:
        return
    assert isinstance(read, TraceRecord)


def test_the_key_is_the_trace_id_in_full() -> None:
    assert trace_key(0xABC) == b"00000000000000000000000000000abc"


# --- from a trace id back to the place ------------------------------------------------------------------


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**63 - 1))
def test_a_derived_trace_id_leads_back_to_its_offset(seed: int, offset: int) -> None:
    trace_id = derived_trace_id(seed, offset)
    if trace_id != 1:  # what would have been 0
        assert derived_offset(seed, trace_id) == offset
    assert derived_offset(seed ^ 1 << 64, trace_id) is None


@given(st.integers(0, 2**128 - 1), st.integers(1, 2**128 - 1))
def test_any_other_id_gives_nothing_that_is_no_offset(seed: int, trace_id: int) -> None:
    offset = derived_offset(seed, trace_id)
    assert offset is None or derived_trace_id(seed, offset) == trace_id
