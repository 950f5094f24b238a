"""How queue groups are declared: the waits between tries, what is refused, and how a declaration is stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.groups.commands import GroupDeclared
from penstock.model.queue_settings import (
    DELAY_MS_MAX,
    DELIVERIES_MAX,
    Backoff,
    QueueSettings,
    why_refused,
)


def test_waits_grow_up_to_the_longest() -> None:
    backoff = Backoff(initial_ms=10_000, factor=2.0, max_ms=60_000, jitter=0.0)
    assert [backoff.delay_ms(n, 0.9) for n in range(1, 6)] == [10_000, 20_000, 40_000, 60_000, 60_000]
    assert Backoff(initial_ms=5, factor=1.0, jitter=0.0).delay_ms(900, 0.0) == 5
    assert Backoff(initial_ms=0, factor=9.0, jitter=1.0).delay_ms(900, 0.9) == 0
    assert Backoff(initial_ms=1_000, max_ms=1_000, jitter=0.1).delay_ms(7, 0.5) == 1_050


@given(
    backoff=st.builds(
        Backoff,
        initial_ms=st.integers(0, DELAY_MS_MAX),
        factor=st.floats(1.0, 100.0),
        max_ms=st.integers(0, DELAY_MS_MAX),
        jitter=st.floats(0.0, 1.0),
    ),
    deliveries=st.integers(1, DELIVERIES_MAX),
    chance=st.floats(0.0, 0.999),
)
def test_waits_stay_within_their_bounds(backoff: Backoff, deliveries: int, chance: float) -> None:
    shortest = min(backoff.initial_ms, backoff.max_ms)
    delay_ms = backoff.delay_ms(deliveries, chance)
    assert shortest <= delay_ms <= backoff.max_ms * (1 + backoff.jitter)
    assert backoff.delay_ms(deliveries + 1, chance) >= delay_ms


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (QueueSettings(), None),
        (QueueSettings(lease_ms=0), "lease.duration in ms is 0: it must be from 1 to 43200000"),
        (QueueSettings(in_flight_max=100_001), "lease.maxInFlight is 100001: it must be from 1 to 100000"),
        (QueueSettings(deliveries_max=0), "retry.maxDeliveries is 0: it must be from 1 to 1000"),
        (
            QueueSettings(backoff=Backoff(factor=0.5)),
            "retry.backoff.factor is 0.5: it must be from 1.0 to 100.0",
        ),
        (
            QueueSettings(backoff=Backoff(jitter=float("nan"))),
            "retry.backoff.jitter is nan: it must be from 0.0 to 1.0",
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_a_sentence(
    settings: QueueSettings, sentence: str | None
) -> None:
    assert why_refused(settings) == sentence


def test_dead_letters_go_to_a_topic_named_after_the_group() -> None:
    assert QueueSettings().dead_topic("billing") == "billing.dlq"
    assert QueueSettings(dead_letter_topic="failed").dead_topic("billing") == "failed"


def test_a_declaration_without_queue_settings_is_stored_as_before() -> None:
    stream = GroupDeclared("g", 1, "stream", ("t",), "latest")
    assert b"queue" not in msgspec.msgpack.encode(stream)
    queue = GroupDeclared("g", 1, "queue", ("t",), "latest", queue=QueueSettings(deliveries_max=3))
    for declared in (stream, queue):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(declared), type=GroupDeclared) == declared
