"""Members that are behind get what the pace allows, and come closer however fast the log grows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.replication.pace import BYTES_PER_SECOND_MIN, LIVE_FACTOR, MIB, WAIT_SECONDS_MAX, Pace


def feed(pace: Pace, seconds: float, live_bytes_per_second: float, piece_bytes: int = MIB) -> float:
    """Bytes per second that leave when every piece is booked as soon as the one before it has left."""
    now, sent = 100.0, 0
    while now < 100.0 + seconds:
        now += pace.book(now, piece_bytes, int(now * live_bytes_per_second)) + 1e-6
        sent += piece_bytes
    return sent / seconds


def test_without_a_live_stream_the_rate_is_the_smallest() -> None:
    assert feed(Pace(), 10.0, 0.0) == pytest.approx(BYTES_PER_SECOND_MIN, rel=0.02)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.floats(0, 400 * MIB))
def test_whoever_is_behind_comes_closer_at_any_load(live: float) -> None:
    rate = feed(Pace(), 20.0, live)
    assert rate == pytest.approx(max(BYTES_PER_SECOND_MIN, LIVE_FACTOR * live), rel=0.05)


def test_the_first_piece_after_a_pause_does_not_wait_and_unused_time_is_not_saved_up() -> None:
    pace = Pace()
    assert pace.book(1.0, MIB, 0) == 0.0
    assert pace.book(50.0, MIB, 0) == 0.0
    assert pace.book(50.0, MIB, 0) == pytest.approx(MIB / BYTES_PER_SECOND_MIN)


def test_nothing_waits_for_long_however_large_the_entry_before_it() -> None:
    pace = Pace()
    pace.book(1.0, 100 * BYTES_PER_SECOND_MIN, 0)
    assert pace.book(1.0, MIB, 0) == pytest.approx(WAIT_SECONDS_MAX)
