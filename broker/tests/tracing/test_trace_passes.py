"""What is found out with as little as can be agrees with what reading the batch says: nothing that is to be followed passes."""

from __future__ import annotations

import struct
from typing import NamedTuple, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.record_batch import HEADER_SIZE, parse_header
from penstock.partition.partition import Partition
from penstock.service.followed import FollowedBatches
from penstock.service.settings import Settings
from penstock.telemetry.trace_counters import TraceCounters
from penstock.testing.simulated_shard import ManualClock
from penstock.tracing.context import may_be_sampled
from penstock.tracing.rules import Rule
from penstock.tracing.sampling import ratio_bound

SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + b"0"


class TopicTracing(NamedTuple):
    """What tracing reads of a topic's settings."""

    traced: bool = True
    trace_bound: int = 0
    trace_rules: tuple[Rule, ...] = ()
    trace_rules_change: int = 0


class Place(NamedTuple):
    """What tracing reads of a partition."""

    topic: str = "orders"
    number: int = 0
    key: int = 1
    topic_id: bytes = bytes(16)


class FixedSettings:
    def __init__(self, topic: TopicTracing) -> None:
        self._topic = topic

    def topic(self, name: str) -> TopicTracing:
        return self._topic


class Judge:
    """Both answers about a batch at some offset."""

    def __init__(self, **topic: object) -> None:
        self.settings = TopicTracing(**topic)  # type: ignore[arg-type]
        self.counters = TraceCounters()
        settings = cast("Settings", FixedSettings(self.settings))
        self.batches = FollowedBatches(settings, ManualClock(), self.counters, "cluster", 0)

    def passes(self, batch: bytes, offset: int = 0) -> bool:
        view, place = memoryview(batch), cast("Partition", Place())
        return self.batches.passes(self.settings, place, parse_header(view), view, offset)  # type: ignore[arg-type]

    def followed(self, batch: bytes, offset: int = 0) -> bool:
        view, place = memoryview(batch), cast("Partition", Place())
        return self.batches.decide(place, parse_header(view), view[HEADER_SIZE:], offset, epoch=1) is not None


values = (
    st.none()
    | st.sampled_from(
        [SAMPLED, UNSAMPLED, SAMPLED + b"-more", UNSAMPLED[:-2] + b"a1", b"", b"\x16traceparent\x6e"]
    )
    | st.binary(max_size=70)
)
names = st.sampled_from(["traceparent", "Traceparent", "tracestate", "a", "x-traceparent", "traceparent2"])
bodies = (
    st.none() | st.binary(max_size=80) | st.sampled_from([b"traceparent" + b"\x6e" + SAMPLED, b"z" * 9_000])
)


@given(
    st.lists(st.tuples(names, values), max_size=4),
    bodies,
    bodies,
    st.sampled_from([0, ratio_bound(0.5), ratio_bound(1.0)]),
    st.integers(0, 50),
)
@example([("traceparent", UNSAMPLED), ("traceparent", SAMPLED)], None, None, 0, 0)
@example([("a", b"traceparent\x6e" + UNSAMPLED), ("traceparent", SAMPLED)], None, None, 0, 0)
@example([("traceparent", SAMPLED), ("a", b"x" * 17_000)], None, None, 0, 0)
def test_nothing_that_is_to_be_followed_passes(
    headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None, bound: int, offset: int
) -> None:
    batch = bytes(build_batch([Record(key, value, 5, tuple(headers)), Record(b"other", SAMPLED)]))
    judge = Judge(trace_bound=bound)
    assert not (judge.passes(batch, offset) and judge.followed(batch, offset))


@pytest.mark.parametrize("value", [b"v", b"v" * 70, b"v" * 20_000])
def test_most_batches_pass(value: bytes) -> None:
    """Otherwise this would save nothing."""
    for headers in (
        (),
        (("traceparent", UNSAMPLED),),
        (("a", b"1"), ("traceparent", UNSAMPLED), ("b", b"2")),
    ):
        judge = Judge()
        assert judge.passes(bytes(build_batch([Record(b"key", value, 5, headers)])))
        assert judge.counters.looked == 1


def test_what_may_be_followed_does_not_pass() -> None:
    plain = bytes(build_batch([Record(b"key", b"value")]))
    assert not Judge().passes(bytes(build_batch([Record(headers=(("traceparent", SAMPLED),))])))
    assert not Judge(trace_bound=ratio_bound(1.0)).passes(plain)
    assert not Judge(trace_rules=(Rule("1", 1 << 60, "orders", "", "key"),)).passes(plain)
    assert not Judge().passes(bytes(build_batch([Record(b"k")], options=BatchOptions(compression=1))))  # type: ignore[arg-type]


def test_a_rule_that_is_over_makes_nobody_look() -> None:
    plain = bytes(build_batch([Record(b"key", b"value")]))
    assert Judge(trace_rules=(Rule("1", 1, "orders", "", "key"),)).passes(plain)


def test_a_topic_that_is_not_traced_is_not_looked_into() -> None:
    judge = Judge(traced=False, trace_bound=ratio_bound(1.0))
    assert judge.passes(bytes(build_batch([Record(headers=(("traceparent", SAMPLED),))])))
    assert judge.counters.looked == 0


SAMPLED_BATCH = bytes(build_batch([Record(b"key", b"value", 5, (("traceparent", SAMPLED),))]))


@given(st.integers(0, 8), st.binary(max_size=40))
@example(0, b"")
def test_a_length_that_lies_costs_nothing_and_raises_nothing(kept: int, records: bytes) -> None:
    """`kept` bytes of a first record that is to be followed, then anything, then the rest of it."""
    rest = HEADER_SIZE + kept
    batch = bytearray(SAMPLED_BATCH[:rest] + records + SAMPLED_BATCH[rest + len(records) :])
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    judge = Judge()
    followed = judge.followed(bytes(batch))
    assert not (judge.passes(bytes(batch)) and followed)
    assert followed or records


def test_only_a_flag_without_its_lowest_bit_says_no() -> None:
    for flags in range(256):
        region = b"\x16traceparent\x6e" + SAMPLED[:-2] + b"%02x" % flags
        assert may_be_sampled(region, 0, len(region)) == bool(flags & 1), flags
    other = b"traceparen" + SAMPLED
    assert not may_be_sampled(other, 0, len(other))


def test_what_lies_outside_of_the_region_says_nothing() -> None:
    data = b"\x16traceparent\x6e" + SAMPLED
    assert may_be_sampled(data, 1, len(data))
    assert not may_be_sampled(data, 2, len(data))
    assert not may_be_sampled(data, 0, 11)
    # A context that is cut short is read by nobody, but who looks here cannot tell that.
    assert may_be_sampled(data, 0, 30)
