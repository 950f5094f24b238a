"""The election's times fit together, for every setting that is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.replication.master_timing import LeaseTiming, lease_timing


def test_the_defaults() -> None:
    assert lease_timing() == LeaseTiming(
        duration_ms=6000,
        renew_interval_ms=2000,
        stop_margin_ms=1000,
        request_timeout_ms=1000,
        poll_interval_ms=500,
        close_poll_ms=50,
        retry_pause_ms=200,
        log_stall_ms_max=3000,
    )


@given(st.integers(-10, 100_000), st.integers(-10, 100_000))
def test_a_lost_renewal_can_be_read_back_and_repeated_in_time(duration_ms: int, renew_ms: int) -> None:
    try:
        timing = lease_timing(duration_ms, renew_ms)
    except ValueError:
        return
    last_ms = timing.renew_interval_ms + 3 * timing.request_timeout_ms + timing.stop_margin_ms
    assert last_ms <= timing.duration_ms
    assert min(timing.request_timeout_ms, timing.poll_interval_ms, timing.retry_pause_ms) >= 1


@pytest.mark.parametrize(("duration_ms", "renew_ms"), [(6000, 3001), (6000, 0), (3, 1)])
def test_times_that_do_not_fit_are_refused(duration_ms: int, renew_ms: int) -> None:
    with pytest.raises(ValueError, match=r"failover\.renewInterval .* write at most half of it"):
        lease_timing(duration_ms, renew_ms)
