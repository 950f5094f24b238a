"""What is told of a message: excerpts, times, its way, cursors; and the text that people are shown."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.admin.message_cursor import Cursor, begin, read_cursor, search_order, write_cursor
from penstock.admin.message_models import Excerpt, MessageDetail, TraceEvent
from penstock.admin.message_views import (
    detail_view,
    excerpt,
    group_reading,
    instant,
    known_events,
    message_view,
    sequence,
)
from penstock.admin.trace_views import timeline
from penstock.cli.message_text import excerpt_text, group_rows, message_lines, time_text, timeline_lines
from penstock.cli.times import duration_ms, since_ms
from penstock.codec.compression import Compression
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.listeners.http.limits import HEADER_PREVIEW_BYTES_MAX, HEADERS_SHOWN_MAX
from penstock.listeners.http.problems import RefusalError
from penstock.model.record_batch import parse_header
from penstock.service.group_api import GroupPosition
from penstock.service.message_api import StoredMessage
from penstock.testing.memory_services import MemoryBroker

STATUS = MemoryBroker().status()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOON_MS = 1_795_262_400_000


def stored(record: Record, *, epoch: int = 3, **bounds: int) -> StoredMessage:
    offset = record.offset
    options = BatchOptions(
        compression=Compression.GZIP, producer_id=9, producer_epoch=1, base_sequence=2**31 - 1, leader_epoch=5
    )
    header = parse_header(build_batch([record, record], offset - 1, options))
    where = {"log_start": 0, "high_watermark": offset + 1, "end_offset": offset + 1, **bounds}
    return StoredMessage("orders", 2, record, header, 200, epoch, **where)


def detail(message: StoredMessage, *positions: GroupPosition) -> MessageDetail:
    readings = [group_reading(message, position) for position in positions]
    return detail_view(message_view(message, STATUS, 1024), message, readings, len(readings))


RECORD = Record(b"k", b"body", NOON_MS, (("trace", b"\xff"), ("none", None)), 11)


# --- models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "bytes_max", "expected"),
    [
        (None, 9, None),
        (b"", 9, Excerpt(0, text="")),
        (b"text", 4, Excerpt(4, text="text")),
        (b"text", 3, Excerpt(4, text="tex", truncated=True)),
        (b"text", 0, Excerpt(4, text="", truncated=True)),
        # Cut between two characters, not within one.
        ("aé".encode(), 2, Excerpt(3, text="a", truncated=True)),
        (b"a\xc3", 9, Excerpt(2, base64=b"a\xc3")),
        (b"\xff\x00\x01", 2, Excerpt(3, base64=b"\xff\x00", truncated=True)),
    ],
)
def test_excerpts(data: bytes | None, bytes_max: int, expected: Excerpt | None) -> None:
    assert excerpt(data, bytes_max) == expected


@given(st.binary(max_size=40), st.integers(0, 50))
def test_an_excerpt_is_a_beginning(data: bytes, bytes_max: int) -> None:
    found = excerpt(data, bytes_max)
    assert found is not None
    shown = found.base64 if found.text is None else found.text.encode()
    assert shown is not None
    assert data.startswith(shown)
    assert len(shown) <= bytes_max
    assert found.truncated == (len(data) > bytes_max)
    if not found.truncated:
        assert shown == data


def test_sequence_numbers_begin_anew_behind_the_largest() -> None:
    assert sequence(5, 2) == 7
    assert sequence(2**31 - 1, 1) == 0


@pytest.mark.parametrize("timestamp", [-1, -(2**63), 2**63 - 1, 253_402_300_800_000])
def test_a_timestamp_that_is_no_date_is_no_time(timestamp: int) -> None:
    assert instant(timestamp) is None


def test_a_timestamp_is_exact_to_the_millisecond() -> None:
    assert instant(NOON_MS + 123) == NOON + timedelta(milliseconds=123)


def test_a_message_says_who_stored_it_and_who_sent_it() -> None:
    view = message_view(stored(RECORD), STATUS, 2)
    assert (view.shard, view.epoch, view.leader_epoch, view.leader) == (0, 3, 5, "memory-0-0")
    assert message_view(stored(RECORD, epoch=2), STATUS, 2).leader == ""
    assert view.producer is not None
    assert (view.producer.id, view.producer.epoch, view.producer.sequence) == (9, 1, 0)
    assert (view.batch.first_offset, view.batch.messages, view.batch.compression) == (10, 2, "gzip")
    assert view.bytes == len(b"k" + b"body" + b"trace" + b"\xff" + b"none")
    assert (view.key, view.value) == (Excerpt(1, text="k"), Excerpt(4, text="bo", truncated=True))
    assert [(header.name, header.value) for header in view.headers] == [
        ("trace", Excerpt(1, base64=b"\xff")),
        ("none", None),
    ]


def test_many_and_long_headers_are_cut_and_counted() -> None:
    record = Record(b"k", b"", 0, (("n" * 5000, b"v" * 5000),) * 150, 1)
    view = message_view(stored(record), STATUS, 10)
    assert (len(view.headers), view.header_count) == (HEADERS_SHOWN_MAX, 150)
    assert len(view.headers[0].name) == HEADER_PREVIEW_BYTES_MAX
    assert view.headers[0].value is not None
    assert view.headers[0].value.truncated


@pytest.mark.parametrize(
    ("position", "read", "ahead", "lag"),
    [(12, True, 0, 8), (11, False, 0, 9), (7, False, 4, 13), (0, False, 6, 15), (20, True, 0, 0)],
)
def test_where_a_group_is_seen_from_a_message(position: int, read: bool, ahead: int, lag: int) -> None:
    message = stored(RECORD, log_start=5, high_watermark=20, end_offset=20)
    found = group_reading(message, GroupPosition("g", "Empty", position, NOON_MS))
    assert (found.read, found.ahead, found.lag, found.committed_at) == (read, ahead, lag, NOON)


# --- its way ----------------------------------------------------------------------------------------


def test_what_can_be_known_without_anybody_having_watched() -> None:
    message = detail(
        stored(RECORD, high_watermark=20, end_offset=21),
        GroupPosition("slow", "Empty", 10, NOON_MS),
        GroupPosition("late", "Stable", 15, NOON_MS + 9000),
        GroupPosition("fast", "Stable", 20, NOON_MS + 5000),
    )
    events = timeline(known_events(message))
    assert [(event.what, event.at, event.who.split(" (")[0]) for event in events] == [
        ("produced", NOON, "producer 9"),
        ("appended", None, "shard 0, epoch 3: memory-0-0, which leads still"),
        ("committed", None, "shard 0"),
        ("read", NOON + timedelta(seconds=5), "group fast"),
        ("read", NOON + timedelta(seconds=9), "group late"),
        ("unread", None, "group slow"),
    ]
    assert "position 10, 1 message before this one, lag 10" in events[-1].detail


def test_a_message_that_is_not_committed_says_so() -> None:
    events = known_events(detail(stored(RECORD, high_watermark=11)))
    assert [event.what for event in events] == ["produced", "appended", "uncommitted"]


def test_with_log_append_time_it_is_the_append_that_has_a_time() -> None:
    message = detail(stored(RECORD))
    message.timestamp_type = "LogAppendTime"
    produced, appended, _ = known_events(message)
    assert (produced.at, appended.at) == (None, NOON)


# --- where a search goes on -------------------------------------------------------------------------


def test_the_partition_of_the_default_partitioner_is_searched_first() -> None:
    # murmur2 of "21" is -973932308, as in Kafka's UtilsTest; without its sign bit that is 1173551340.
    assert search_order(b"21", 7, None) == [
        1_173_551_340 % 7,
        *(n for n in range(7) if n != 1_173_551_340 % 7),
    ]
    assert search_order(b"21", 7, 3) == [3]


def test_a_cursor_comes_back_as_it_went() -> None:
    first = begin("t", b"k", 8, None)
    later = msgspec.structs.replace(first, place=3, before=17)
    assert read_cursor(write_cursor(later), first) == later
    # Partitions that were added meanwhile are not searched.
    assert read_cursor(write_cursor(later), begin("t", b"k", 9, None)).partitions == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "u"},
        {"key_hash": 1},
        {"version": 2},
        {"only": 3},
        {"place": 8},
        {"place": -1},
        {"partitions": 9},
        {"partitions": 0},
        {"before": -1},
        {"before": 2**63},
    ],
)
def test_a_cursor_of_something_else_is_refused(changes: dict[str, int | str]) -> None:
    first = begin("t", b"k", 8, None)
    with pytest.raises(RefusalError, match="cursor"):
        read_cursor(write_cursor(msgspec.structs.replace(first, **changes)), first)


@given(
    st.one_of(
        st.text(max_size=30), st.binary(max_size=30).map(lambda b: base64.urlsafe_b64encode(b).decode())
    )
)
def test_no_text_makes_a_cursor_fail(text: str) -> None:
    try:
        read_cursor(text, begin("t", b"k", 8, None))
    except RefusalError:
        return
    raise AssertionError("nothing but a cursor's own text is one")


def test_a_cursor_is_short() -> None:
    assert len(write_cursor(Cursor(1, "t" * 249, 2**32 - 1, 100_000, 99_999, 99_999, 2**63 - 1))) < 450


# --- the command line -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("1d12h", 129_600_000), ("250ms", 250), ("0s", 0)],
)
def test_durations(text: str, expected: int) -> None:
    assert duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "5", "h", "2 h", "-2h", "1.5h", "2w", "²h", "1h-", "9" * 13 + "s"])
def test_what_is_no_duration(text: str) -> None:
    assert duration_ms(text) is None


def test_since_is_a_time_or_so_long_ago() -> None:
    assert since_ms("2h", NOON_MS) == NOON_MS - 7_200_000
    assert since_ms("2026-11-21T12:00:00Z", 0) == NOON_MS
    assert since_ms("2026-11-21T13:00:00+01:00", 0) == NOON_MS
    assert since_ms("99999d", NOON_MS) == since_ms("1950-01-01T00:00:00Z", 0) == 0
    with pytest.raises(ValueError, match="without a zone"):
        since_ms("2026-11-21T12:00:00", 0)
    with pytest.raises(ValueError, match="nor how long ago"):
        since_ms("yesterday", 0)


def test_times_are_utc_to_the_millisecond() -> None:
    assert time_text(NOON + timedelta(microseconds=123_999)) == "2026-11-21T12:00:00.123Z"
    assert time_text(None) == "-"


def test_nothing_that_a_producer_wrote_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\x07\u009b"
    record = Record(evil.encode(), (evil + "\nsecond").encode(), 0, ((evil + "\n", evil.encode()),), 1)
    text = "\n".join(message_lines(message_view(stored(record), STATUS, 100)))
    assert not any((ord(letter) < 32 and letter != "\n") or 127 <= ord(letter) < 160 for letter in text)
    assert "\\x1b[2J" in text
    assert text.endswith("    second")
    assert sum("header" in line for line in text.split("\n")) == 1


def test_a_block_tells_everything() -> None:
    message = detail(stored(RECORD, high_watermark=11), GroupPosition("g", "Empty", 3, NOON_MS))
    assert message_lines(message) == [
        "orders, partition 2, offset 11",
        "  time       2026-11-21T12:00:00.000Z (CreateTime)",
        "  key        k  (1 B)",
        "  producer   id 9, epoch 1, sequence 0",
        f"  batch      offsets 10 to 11, {message.batch.bytes} B stored, gzip of 200 B",
        "  stored     by shard 0 in epoch 3 (leader epoch 5), by memory-0-0, which leads still",
        "  committed  not yet: consumers do not get it, and it may be lost",
        "  header     trace=base64:/w==",
        "  header     none=(null)",
        "  value      4 B",
        "    body",
    ]
    assert group_rows(message) == [["g", "no", 3, 8, 8, "Empty", "2026-11-21T12:00:00.000Z"]]


def test_null_and_cut_contents_are_told() -> None:
    assert excerpt_text(None) == "(null)"
    assert excerpt_text(Excerpt(9, base64=b"\xff", truncated=True)) == "base64:/w==…"
    tombstone = message_lines(message_view(stored(Record(None, None, -1, (), 1)), STATUS, 9))
    assert tombstone[1] == "  time       - (CreateTime)"
    assert tombstone[2] == "  key        (null)"
    assert tombstone[-1] == "  value      (null: a tombstone)"
    cut = message_lines(message_view(stored(Record(b"k", b"body", 0, (), 1)), STATUS, 2))
    assert cut[-2:] == ["  value      4 B, cut; --preview shows more, --body all of it", "    bo…"]


def test_a_timeline_has_its_columns_under_each_other() -> None:
    events = [
        TraceEvent("produced", NOON, "p", "message", "5 bytes"),
        TraceEvent("read", None, "group\x1b", "group", "two\nlines"),
    ]
    assert timeline_lines(events) == [
        "2026-11-21T12:00:00.000Z  produced  p          5 bytes",
        "-                         read      group\\x1b  two\\x0alines",
    ]
    assert timeline_lines([]) == []
