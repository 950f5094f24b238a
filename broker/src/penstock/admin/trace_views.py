"""The way of one message from everything that knows of it: events that were written, and what log and groups still tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from penstock.admin.message_models import MessageDetail, TraceEvent
from penstock.admin.message_views import known_events
from penstock.service.trace_api import Verdict
from penstock.tracing import attributes as names

if TYPE_CHECKING:
    from penstock.service.trace_api import FoundRecords, TraceOf, TraceService
    from penstock.tracing.record import TraceRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_MS: Final = 1_000_000

# What a span's operation is called once it is done.
_DONE: Final = {
    names.RECEIVE: "received",
    names.APPEND: "appended",
    names.REPLICATE: "committed",
    names.DELIVER: "delivered",
    names.SETTLE: "settled",
}
_EVENTS: Final = {
    names.EVENT_REFUSED: "refused",
    names.EVENT_THROTTLED: "throttled",
    names.EVENT_REPEATED: "repeated",
    names.EVENT_FAILOVER: "failover",
    names.EVENT_ABANDONED: "abandoned",
}
# The order of what always follows each other, for events at the same time and for those without one.
_STAGES: Final = {
    "produced": 0,
    **dict.fromkeys(("received", "repeated"), 1),
    **dict.fromkeys(("appended", "refused", "throttled", "failover", "abandoned"), 2),
    **dict.fromkeys(("committed", "uncommitted"), 3),
    "unread": 5,
}
_LATER: Final = 4


# --- written events -------------------------------------------------------------------------------------


def sampled_events(record: TraceRecord, of: MessageDetail | None) -> list[TraceEvent]:
    """What one span tells. Where `of` is not the message of its batch, or there is no message, it says where that stands."""
    repeated = any(event.name == names.EVENT_REPEATED for event in record.events)
    # Sent again to a later leader, the batch is still the one that an earlier one stored.
    where = _where(record, of, any_epoch=repeated)
    found = []
    if record.what == names.RECEIVE:
        # It did come, whatever came of it.
        found.append(_event(record, "repeated" if repeated else "received", record.start, where))
    elif record.error is None or not record.events:
        done = _DONE.get(record.what, record.what)
        found.append(_event(record, done if record.error is None else f"not {done}", record.end, where))
    for event in record.events:
        if event.name == names.EVENT_REPEATED:
            continue
        what = _EVENTS.get(event.name, event.name)
        reason = event.attributes.get(names.PENSTOCK_MESSAGE, record.error or "")
        code = event.attributes.get(names.ERROR_TYPE, "")
        detail = " ".join(str(part) for part in (f"{code}:" if code else "", reason) if part)
        step = "" if record.what == names.RECEIVE else f"{record.what}: "
        found.append(
            TraceEvent(what, _instant(event.at), record.broker, "trace", where + step + detail, record.span)
        )
    return found


def _event(record: TraceRecord, what: str, at_ns: int, where: str) -> TraceEvent:
    took = f"{(record.end - record.start) / _NS_PER_MS:.1f} ms"
    client = record.said(names.MESSAGING_CLIENT_ID)
    by = f"client {client}" if client else "a client without an id"
    who = f"{record.broker}, epoch {record.epoch}" if record.epoch >= 0 else record.broker
    match record.what:
        case names.RECEIVE:
            acks = {"-1": "all"}.get(said := record.said(names.PENSTOCK_ACKS), said)
            detail = (
                f"from {by} by {record.said(names.PENSTOCK_PROTOCOL)}, acks={acks}, answered after {took}"
            )
        case names.APPEND:
            size = record.said(names.MESSAGING_MESSAGE_ENVELOPE_SIZE)
            detail = f"offset {record.offset}, batch of {size} bytes, in {took}"
        case names.REPLICATE:
            detail = f"{record.said(names.PENSTOCK_IN_SYNC)} in sync, after {took}"
        case names.DELIVER:
            who, detail = by, f"by {record.broker}, {record.said(names.PENSTOCK_PROTOCOL)}, in {took}"
        case names.SETTLE:
            who = f"group {record.said(names.MESSAGING_CONSUMER_GROUP_NAME)}"
            detail = (
                f"{by} committed offset {record.said(names.PENSTOCK_COMMITTED_OFFSET)} at {record.broker}"
            )
        case _:
            detail = f"in {took}"
    if record.error is not None and not record.events:
        detail += f"; {record.error}"
    return TraceEvent(what, _instant(at_ns), who, "trace", where + detail, record.span)


def _where(record: TraceRecord, of: MessageDetail | None, *, any_epoch: bool) -> str:
    stands = f"{record.topic}, partition {record.partition}"
    if record.offset >= 0:
        stands += f", offset {record.offset}"
    if of is None or not record.holds(of.topic, of.partition, of.offset):
        return f"{stands}: "
    if record.offset >= 0 and record.epoch != of.leader_epoch and not any_epoch:
        return f"another batch, of epoch {record.epoch}, that was cut off: "
    return ""


def _instant(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def batches(records: Iterable[TraceRecord]) -> set[tuple[str, int, int]]:
    """(topic, partition, base offset) of every batch that stands somewhere."""
    return {(record.topic, record.partition, record.offset) for record in records if record.offset >= 0}


# --- one timeline ---------------------------------------------------------------------------------------


def merged(message: MessageDetail | None, records: Sequence[TraceRecord]) -> list[TraceEvent]:
    """Everything that is known as one timeline. What a written event says with its time is not said again by log or groups."""
    sampled = [event for record in records for event in sampled_events(record, message)]
    if message is None:
        return timeline(sampled)
    done = {
        record.what for record in records if record.error is None and record.epoch == message.leader_epoch
    }
    settled = {
        f"group {record.said(names.MESSAGING_CONSUMER_GROUP_NAME)}"
        for record in records
        if record.what == names.SETTLE and record.error is None
    }

    def told(event: TraceEvent) -> bool:
        match event.what:
            case "appended":
                return names.APPEND in done
            case "committed":
                return names.REPLICATE in done
            case "read":
                return event.who in settled
            case _:
                return False

    return timeline([event for event in known_events(message) if not told(event)], sampled)


def timeline(*sources: Iterable[TraceEvent]) -> list[TraceEvent]:
    """Events of several sources as one list. What the producer says comes first, for its clock may differ. What has a time follows by
    it; what has none stands behind the last event that always comes before it."""
    events = [event for source in sources for event in source]
    first = [event for event in events if _stage(event) == 0]
    timed = [event for event in events if _stage(event) and event.at is not None]
    ordered = first + sorted(timed, key=lambda event: (event.at, _stage(event)))
    without = [event for event in events if _stage(event) and event.at is None]
    for event in sorted(without, key=_stage):
        before = [place for place, other in enumerate(ordered) if _stage(other) <= _stage(event)]
        ordered.insert(before[-1] + 1 if before else 0, event)
    return ordered


def _stage(event: TraceEvent) -> int:
    return _STAGES.get(event.what, _LATER)


# --- what is true of its trace --------------------------------------------------------------------------


def note(of: TraceOf, found: FoundRecords, service: TraceService) -> str:
    """Whether a message was followed, as far as that can be told, and where to look it up."""
    named = f"Its trace is {of.trace_id:032x}, "
    named += (
        "that of its producer's context."
        if of.from_context
        else "which follows from where it stands: the first message of its batch has no context."
    )
    if found.records:
        return f"{named} It was followed."
    rest = "This is what log and groups can tell."
    if of.verdict is Verdict.OFF:
        why = "Nobody followed it here: tracing is off (neither tracing.endpoint nor tracing.topic.enabled is set)."
        if of.from_context:
            why += " Its producer's collector may know more."
        return f"{named} {why} {rest}"
    if not of.verdict.followed:
        return f"{named} {_NOT_FOLLOWED[of.verdict]} {rest}"
    why = f"By the settings of now it is followed ({_FOLLOWED[of.verdict]}), "
    if not service.kept:
        why += "but events are not kept here (tracing.topic.enabled is false):"
    elif found.before is not None:
        why += "but no event of it is among those that were searched:"
    else:
        why += "but no event of it is kept, or not any more:"
    look = (
        f" look the trace up at {service.collector}."
        if service.collector
        else " it may be older than tracing."
    )
    return f"{named} {why}{look} {rest}"


_NOT_FOLLOWED: Final = {
    Verdict.TOPIC_OFF: "It is not followed: its topic has penstock.tracing=false.",
    Verdict.CONTEXT_NOT_SAMPLED: "It is not followed: its producer's context is not sampled.",
    Verdict.NOT_PICKED: "It is not followed: the ratio of now does not pick it.",
}
_FOLLOWED: Final = {
    Verdict.RULE: "a rule names it",
    Verdict.CONTEXT: "its producer's context is sampled",
    Verdict.RATIO: "the ratio picks it",
}


def note_of_id(trace_id: int, found: FoundRecords, service: TraceService) -> str:
    """The same where no single message is known of the trace."""
    if found.records:
        many = len(batches(found.records))
        what = (
            f"It is told of {many} batches, each with its place."
            if many > 1
            else "The message itself is not in the log: it was refused, cut off, or retention took it."
        )
        return f"Trace {trace_id:032x} was followed. {what}"
    if not service.kept:
        return (
            f"Nothing is known of trace {trace_id:032x}: events are not kept here (tracing.topic.enabled is false), and it follows"
            " from the place of no message."
        )
    where = "the events that were searched" if found.before is not None else "the events that are kept"
    return f"Nothing is known of trace {trace_id:032x}: {where} do not have it, and it follows from the place of no message."
