"""The times of the election of mode MasterSlave, all derived from two settings.

A master counts from when it sent its last successful renewal, the others from when they saw it, which is later; both for
the duration. So they cannot overlap while the clocks run equally fast, and the margin by which the master stops earlier
covers clocks that do not, and what it takes to stop.
"""

from __future__ import annotations

import msgspec

DURATION_MS = 6000
RENEW_INTERVAL_MS = 2000
# Part of the duration by which a master stops before the others may begin.
MARGIN_PARTS = 6
# A renewal whose answer is lost, the reading back, and another try must fit between renewing and stopping.
REQUESTS_PER_RENEWAL = 3
# How often those who wait look; a free Lease is taken that much later.
POLL_INTERVAL_MS_MAX = 500
# How often they look while something says that it changes, and for how long: a process that ended is seen to end a moment later.
CLOSE_POLL_MS_MAX = 50
CLOSELY_MS = 2_000
# Between two tries while the store refuses or cannot be reached.
RETRY_PARTS = 30


class LeaseTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds. `log_stall_ms_max`: a master whose log has finished no write for so long does not renew."""

    duration_ms: int
    renew_interval_ms: int
    stop_margin_ms: int
    request_timeout_ms: int
    poll_interval_ms: int
    close_poll_ms: int
    retry_pause_ms: int
    log_stall_ms_max: int


def lease_timing(duration_ms: int = DURATION_MS, renew_interval_ms: int = RENEW_INTERVAL_MS) -> LeaseTiming:
    """From `failover.leaseDuration` and `failover.renewInterval`. Raises ValueError with a sentence."""
    margin_ms = duration_ms // MARGIN_PARTS
    request_ms = (duration_ms - margin_ms - renew_interval_ms) // REQUESTS_PER_RENEWAL
    if renew_interval_ms < 1 or request_ms < 1 or renew_interval_ms > duration_ms // 2:
        raise ValueError(
            f"failover.renewInterval of {renew_interval_ms} ms does not fit failover.leaseDuration of {duration_ms} ms:"
            " write at most half of it, so that a lost renewal can be repeated"
        )
    poll_ms = max(1, min(POLL_INTERVAL_MS_MAX, renew_interval_ms // 2))
    return LeaseTiming(
        duration_ms=duration_ms,
        renew_interval_ms=renew_interval_ms,
        stop_margin_ms=margin_ms,
        request_timeout_ms=request_ms,
        poll_interval_ms=poll_ms,
        close_poll_ms=min(CLOSE_POLL_MS_MAX, poll_ms),
        retry_pause_ms=max(1, duration_ms // RETRY_PARTS),
        log_stall_ms_max=duration_ms - margin_ms - renew_interval_ms,
    )
