"""Spans as rows that can be compared with expected ones: under names that say what they are, without ids and times.

Ids are different in each run, so a row names other spans by their names: `order-1 deliver to billing` is below
`order-1 receive` and linked to `order-1 send`. Everything else is compared as it came. Where a value cannot be known
before, the expected row has one of the patterns below in its place.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.testing.otlp_receiver import ReceivedSpan

BROKER = "penstock-broker"
UNKNOWN = "somebody else's"
KEY, OFFSET, CLIENT = "messaging.kafka.message.key", "messaging.kafka.offset", "messaging.client.id"
REPEATED = "penstock.repeated"


class Pattern:
    """A value that equals several; `==` with it stands in for `fits`."""

    def fits(self, value: object) -> bool:
        """Whether the value is one of those."""
        raise AssertionError(f"{type(self).__name__} does not say what fits")

    def __eq__(self, other: object) -> bool:
        return self.fits(other)

    def __hash__(self) -> int:
        return id(self)


class OneOf(Pattern):
    """One of these values."""

    def __init__(self, *values: object) -> None:
        self._values = values

    def fits(self, value: object) -> bool:
        """See `Pattern`."""
        return value in self._values

    def __repr__(self) -> str:
        return f"one of {self._values}"


class Whole(Pattern):
    """A whole number of at least so much."""

    def __init__(self, least: int) -> None:
        self._least = least

    def fits(self, value: object) -> bool:
        """See `Pattern`."""
        return type(value) is int and value >= self._least

    def __repr__(self) -> str:
        return f"a number from {self._least} on"


class Text(Pattern):
    """Text that goes on after `prefix`."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def fits(self, value: object) -> bool:
        """See `Pattern`."""
        return isinstance(value, str) and value.startswith(self._prefix) and len(value) > len(self._prefix)

    def __repr__(self) -> str:
        return f"text that begins with {self._prefix!r}"


@dataclass(frozen=True)
class Row:
    """One span. `trace`, `parent` and `links` name traces and spans as this module does; `parent` is empty for a root."""

    name: str
    kind: str
    trace: str
    parent: str
    links: list[str] = field(default_factory=list)
    error: object = None
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    attributes: dict[str, object] = field(default_factory=dict)
    resource: dict[str, object] = field(default_factory=dict)


def rows(spans: Sequence[ReceivedSpan], topic: str, keys: Sequence[str]) -> dict[str, Row]:
    """Rows by their names. `keys` are those of the messages at offsets 0, 1, … of the topic's only partition, in the order in
    which their producer sent them. A second span of one name is `NAME #2`."""
    names = _Names(spans, topic, keys)
    called = list(zip(names.unique(), spans, strict=True))
    by_id = {(span.trace_id, span.span_id): name for name, span in called}
    return {
        name: Row(
            span.name,
            span.kind,
            names.traces.get(span.trace_id, UNKNOWN),
            by_id.get((span.trace_id, span.parent_id), UNKNOWN) if span.parent_id else "",
            [by_id.get(link, UNKNOWN) for link in span.links],
            span.error,
            span.events,
            span.attributes,
            span.resource,
        )
        for name, span in called
    }


class _Names:
    """What spans and traces are called. A message's trace is that of its producer's span."""

    def __init__(self, spans: Sequence[ReceivedSpan], topic: str, keys: Sequence[str]) -> None:
        self._spans = spans
        self._topic = topic
        self._keys = keys
        sent = sorted(
            (span for span in spans if span.name == f"{topic} send"), key=lambda span: span.start_ns
        )
        self._sent = {span.span_id: key for span, key in zip(sent, keys, strict=False)}
        self.traces = {span.trace_id: self._sent[span.span_id] for span in sent if span.span_id in self._sent}
        # What the instrumentation calls `recv` says nothing of itself; only what is below it does.
        self._processed = {
            span.parent_id: self._processed_key(span) for span in spans if span.name == f"{topic} process"
        }
        for span in spans:
            if span.span_id in self._processed:
                self.traces[span.trace_id] = self._name(span)

    def unique(self) -> Iterator[str]:
        """A name for each span, in their order."""
        seen: Counter[str] = Counter()
        for span in self._spans:
            name = self._name(span)
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name} #{seen[name]}"

    def _name(self, span: ReceivedSpan) -> str:
        service = span.resource.get("service.name")
        if service == BROKER:
            return _broker_name(span)
        if span.span_id in self._sent:
            return f"{self._sent[span.span_id]} send"
        if span.span_id in self._processed:
            return f"{self._processed[span.span_id]} recv by {service}"
        if span.name == f"{self._topic} process":
            return f"{self._processed_key(span)} process by {service}"
        return f"{service}: {span.name}"

    def _processed_key(self, span: ReceivedSpan) -> str:
        place = str(span.attributes.get("messaging.message.id"))
        offset = place.removeprefix(f"{self._topic}.0.")
        return self._keys[int(offset)] if offset.isdecimal() and int(offset) < len(self._keys) else place


def _broker_name(span: ReceivedSpan) -> str:
    operation, key = span.name.partition(" ")[0], span.attributes.get(KEY)
    if operation in ("deliver", "settle"):
        failed = "failed " if span.error is not None else ""
        return f"{key} {failed}{operation} to {span.attributes.get(CLIENT)}"
    if operation == "receive" and OFFSET not in span.attributes:
        return f"{key} refused"
    if any(event == REPEATED for event, _ in span.events):
        return f"{key} repeated"
    return f"{key} {operation}"


def differences(
    found: Mapping[str, Row],
    wanted: Mapping[str, Row],
    allowed: Mapping[str, tuple[int, Row]],
) -> list[str]:
    """Sentences on what is not as it should be. `allowed` names further spans that may have come, so many of each at most
    (`NAME` also stands for `NAME #2` and so on)."""
    told = [f"{name} is missing" for name in wanted if name not in found]
    counted: Counter[str] = Counter()
    for name, row in found.items():
        base = name.partition(" #")[0]
        if name in wanted:
            told += _differing(name, row, wanted[name])
        elif base in allowed:
            counted[base] += 1
            told += _differing(name, row, allowed[base][1])
        else:
            told.append(f"{name} is unexpected: {row}")
    told += [
        f"{base} came {count} times, at most {allowed[base][0]} are expected"
        for base, count in counted.items()
        if count > allowed[base][0]
    ]
    return told


def _differing(name: str, found: Row, wanted: Row) -> list[str]:
    told = []
    for one in dataclasses.fields(Row):
        is_, should = getattr(found, one.name), getattr(wanted, one.name)
        if is_ == should:
            continue
        if isinstance(is_, dict) and isinstance(should, dict):
            told += [
                f"{name}: {one.name} {key} is {is_.get(key)!r}, not {should.get(key)!r}"
                for key in sorted(is_.keys() | should.keys())
                if is_.get(key) != should.get(key)
            ]
        else:
            told.append(f"{name}: {one.name} is {is_!r}, not {should!r}")
    return told


def mistimed(spans: Sequence[ReceivedSpan]) -> list[str]:
    """Sentences on spans that end before they start, or that a broker began before the `receive` above them."""
    starts: dict[tuple[str, str], Any] = {(span.trace_id, span.span_id): span.start_ns for span in spans}
    return [
        f"{span.name} of {span.attributes.get(KEY)} from {span.start_ns} to {span.end_ns}"
        for span in spans
        if span.end_ns < span.start_ns
        or (
            span.resource.get("service.name") == BROKER
            and span.start_ns < starts.get((span.trace_id, span.parent_id), 0)
        )
    ]
