"""One timeline from written events, log and groups; and the sentences that say whether a message was followed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from penstock.admin.message_models import MessageDetail, TraceEvent
from penstock.admin.message_views import detail_view, group_reading, known_events, message_view
from penstock.admin.trace_views import batches, merged, note, note_of_id, sampled_events, timeline
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.record_batch import parse_header
from penstock.service.group_api import GroupPosition
from penstock.service.message_api import StoredMessage
from penstock.service.trace_api import FoundRecords, TraceOf, Verdict
from penstock.testing.memory_services import MemoryBroker
from penstock.testing.memory_traces import MemoryTraces
from penstock.tracing import attributes as names
from penstock.tracing.record import RecordedEvent, TraceRecord
from penstock.tracing.span import Attribute

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOON_MS = 1_795_262_400_000
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
EPOCH = 5


def message(*positions: GroupPosition, offset: int = 11) -> MessageDetail:
    header = parse_header(
        build_batch([Record(b"k", b"v", NOON_MS)], offset, BatchOptions(leader_epoch=EPOCH))
    )
    record = Record(b"k", b"v", NOON_MS, (), offset)
    stored = StoredMessage("orders", 2, record, header, 200, 3, 0, offset + 1, offset + 1)
    readings = [group_reading(stored, position) for position in positions]
    return detail_view(message_view(stored, MemoryBroker().status(), 10), stored, readings, len(readings))


def record(what: str, start_ms: float, took_ms: float = 1.0, **changes: object) -> TraceRecord:
    said: dict[str, Attribute] = {
        names.MESSAGING_CLIENT_ID: "shop",
        names.PENSTOCK_PROTOCOL: "kafka",
        names.PENSTOCK_ACKS: -1,
        names.PENSTOCK_IN_SYNC: 3,
        names.MESSAGING_CONSUMER_GROUP_NAME: "billing",
        names.PENSTOCK_COMMITTED_OFFSET: 12,
        names.MESSAGING_MESSAGE_ENVELOPE_SIZE: 70,
    }
    start = (NOON_MS * 1000 + round(start_ms * 1000)) * 1000
    place = {"offset": 11, "last": 11, "epoch": EPOCH, "attributes": said, **changes}
    end = start + round(took_ms * 1_000_000)
    return TraceRecord(1, what, "00000000000000b7", "broker-0", 0, "orders", 2, start, end, **place)  # type: ignore[arg-type]


def told(events: list[TraceEvent]) -> list[tuple[str, str]]:
    return [(event.what, event.source) for event in events]


LIFE = [
    record("append", 10, 2),
    record("replicate", 10, 4),
    record("receive", 9, 6),
    record("deliver", 20),
    record("settle", 30),
]


def test_written_events_are_the_life_of_a_message_and_nothing_is_said_twice() -> None:
    groups = (
        GroupPosition("billing", "Stable", 12, NOON_MS + 5000),
        GroupPosition("slow", "Empty", 3, NOON_MS),
    )
    events = merged(message(*groups), LIFE)
    assert told(events) == [
        ("produced", "message"),
        ("received", "trace"),
        ("appended", "trace"),
        ("committed", "trace"),
        ("delivered", "trace"),
        ("settled", "trace"),
        ("unread", "group"),
    ]
    assert [(event.who, event.detail) for event in events[1:6]] == [
        ("broker-0, epoch 5", "from client shop by kafka, acks=all, answered after 6.0 ms"),
        ("broker-0, epoch 5", "offset 11, batch of 70 bytes, in 2.0 ms"),
        ("broker-0, epoch 5", "3 in sync, after 4.0 ms"),
        ("client shop", "by broker-0, kafka, in 1.0 ms"),
        ("group billing", "client shop committed offset 12 at broker-0"),
    ]
    assert [event.at for event in events[1:3]] == [
        NOON + timedelta(milliseconds=9),
        NOON + timedelta(milliseconds=12),
    ]
    assert {event.span_id for event in events} == {"", "00000000000000b7"}


def test_what_was_not_written_is_still_told_by_log_and_groups() -> None:
    positions = (GroupPosition("billing", "Stable", 12, NOON_MS + 5000),)
    events = merged(message(*positions), [record("receive", 9), record("deliver", 20)])
    assert told(events) == [
        ("produced", "message"),
        ("received", "trace"),
        ("appended", "log"),
        ("committed", "log"),
        ("delivered", "trace"),
        ("read", "group"),
    ]


def test_both_leaders_of_a_message_that_lived_through_a_failover_are_told_by_time() -> None:
    lost = [
        RecordedEvent(
            names.EVENT_FAILOVER,
            (NOON_MS + 15) * 1_000_000,
            {names.ERROR_TYPE: "NOT_LEADER_OR_FOLLOWER", names.PENSTOCK_MESSAGE: "another broker leads"},
        )
    ]
    again = [RecordedEvent(names.EVENT_REPEATED, (NOON_MS + 1000) * 1_000_000)]
    records = [
        record("append", 10, 2),
        record("receive", 9, 6, error="another broker leads", events=lost),
        record("replicate", 10, 5, error="another broker leads", events=lost),
        record("receive", 1000, 6, events=again),
        record("deliver", 1100),
    ]
    # The next leader tells of it in its own epoch; the batch is the one that was stored before.
    records[3].epoch += 1
    for item in records[3:]:
        item.broker = "broker-1"
    events = merged(message(), records)
    assert [(event.what, event.who) for event in events] == [
        ("produced", "a producer without an id"),
        ("received", "broker-0, epoch 5"),
        ("appended", "broker-0, epoch 5"),
        ("failover", "broker-0"),
        ("failover", "broker-0"),
        ("repeated", "broker-1, epoch 6"),
        ("committed", "shard 0"),
        ("delivered", "client shop"),
    ]
    assert not any("cut off" in event.detail for event in events)
    details = [event.detail for event in events if event.what == "failover"]
    assert details == [
        "NOT_LEADER_OR_FOLLOWER: another broker leads",
        "replicate: NOT_LEADER_OR_FOLLOWER: another broker leads",
    ]


def test_a_batch_that_was_cut_off_is_told_apart_from_the_one_that_has_its_offset() -> None:
    earlier = record("append", -500, 2, epoch=EPOCH - 1)
    events = merged(message(), [earlier, *LIFE])
    assert told(events)[:3] == [("produced", "message"), ("appended", "trace"), ("received", "trace")]
    assert events[1].detail.startswith("another batch, of epoch 4, that was cut off: offset 11")
    only = merged(message(), [earlier])
    assert ("appended", "log") in told(only)


def test_what_a_broker_refused_stands_nowhere() -> None:
    why = {names.ERROR_TYPE: "NOT_ENOUGH_REPLICAS", names.PENSTOCK_MESSAGE: "one copy is in sync"}
    refused = record(
        "receive",
        0,
        offset=-1,
        last=-1,
        epoch=-1,
        error="one copy is in sync",
        events=[RecordedEvent(names.EVENT_REFUSED, NOON_MS * 1_000_000, why)],
    )
    came, then = sampled_events(refused, None)
    assert (came.what, came.who) == ("received", "broker-0")
    assert then.what == "refused"
    assert then.detail == "orders, partition 2: NOT_ENOUGH_REPLICAS: one copy is in sync"
    assert sampled_events(refused, message())[1].detail == "NOT_ENOUGH_REPLICAS: one copy is in sync"


def test_a_step_that_failed_without_an_event_says_so_and_a_step_to_come_is_shown_by_its_name() -> None:
    (failed,) = sampled_events(record("settle", 0, error="ILLEGAL_GENERATION"), message())
    assert (failed.what, failed.detail.endswith("; ILLEGAL_GENERATION")) == ("not settled", True)
    (later,) = sampled_events(record("compact", 0), message())
    assert (later.what, later.who) == ("compact", "broker-0, epoch 5")


def test_a_trace_of_several_batches_says_where_each_stands() -> None:
    other = record("append", 5, offset=20, last=22)
    assert batches([*LIFE, other]) == {("orders", 2, 11), ("orders", 2, 20)}
    events = merged(None, [*LIFE, other])
    assert all(event.detail.startswith("orders, partition 2, offset ") for event in events)
    assert [event.what for event in events] == [
        "appended", "received", "appended", "committed", "delivered", "settled",
    ]  # fmt: skip


def test_without_any_time_events_stand_in_the_order_of_things() -> None:
    events = [
        TraceEvent("unread", None, "group g", "group", ""),
        TraceEvent("committed", None, "", "log", ""),
        TraceEvent("appended", None, "", "log", ""),
        TraceEvent("produced", NOON, "", "message", ""),
    ]
    assert [event.what for event in timeline(events)] == ["produced", "appended", "committed", "unread"]
    assert [event.what for event in timeline(known_events(message()))] == [
        "produced",
        "appended",
        "committed",
    ]


# --- what is true of its trace --------------------------------------------------------------------------


def service(*, kept: bool = False, collector: str = "") -> MemoryTraces:
    found = MemoryTraces()
    found.kept, found.collector = kept, collector
    return found


@pytest.mark.parametrize(
    ("of", "found", "kept", "collector", "parts"),
    [
        (Verdict.OFF, FoundRecords(), False, "", ["Nobody followed it here: tracing is off"]),
        (Verdict.CONTEXT, FoundRecords(LIFE), True, "", ["It was followed."]),
        # Written before tracing was switched off.
        (Verdict.OFF, FoundRecords(LIFE), False, "", ["It was followed."]),
        (
            Verdict.CONTEXT,
            FoundRecords(),
            False,
            "http://c:4318",
            [
                "By the settings of now it is followed (its producer's context is sampled)",
                "not kept here",
                "at http://c:4318",
            ],
        ),
        (
            Verdict.RATIO,
            FoundRecords(),
            True,
            "",
            ["the ratio picks it", "not any more", "older than tracing"],
        ),
        (
            Verdict.RULE,
            FoundRecords(before=7),
            True,
            "http://c",
            ["among those that were searched", "http://c"],
        ),
        (Verdict.NOT_PICKED, FoundRecords(), True, "", ["It is not followed: the ratio"]),
        (Verdict.CONTEXT_NOT_SAMPLED, FoundRecords(), True, "", ["its producer's context is not sampled"]),
        (Verdict.TOPIC_OFF, FoundRecords(), True, "", ["penstock.tracing=false"]),
    ],
)
def test_the_note_says_what_is_true(
    of: Verdict, found: FoundRecords, kept: bool, collector: str, parts: list[str]
) -> None:
    for from_context, origin in (
        (True, "that of its producer's context"),
        (False, "follows from where it stands"),
    ):
        text = note(TraceOf(TRACE_ID, from_context, of), found, service(kept=kept, collector=collector))
        assert text.startswith("Its trace is 0af7651916cd43dd8448eb211c80319c, ")
        assert all(part in text for part in [origin, *parts]), text
        assert text.endswith("It was followed." if found.records else "This is what log and groups can tell.")


def test_the_note_on_an_id_says_what_is_known_of_it() -> None:
    kept = service(kept=True)
    assert "Nothing is known" in note_of_id(TRACE_ID, FoundRecords(), kept)
    assert "events are not kept here" in note_of_id(TRACE_ID, FoundRecords(), service())
    assert "that were searched" in note_of_id(TRACE_ID, FoundRecords(before=3), kept)
    assert "not in the log" in note_of_id(TRACE_ID, FoundRecords(LIFE), kept)
    other = record("append", 5, offset=20, last=22)
    assert "of 2 batches" in note_of_id(TRACE_ID, FoundRecords([*LIFE, other]), kept)
