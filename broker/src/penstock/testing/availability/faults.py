"""Causes carried out on the processes of a shard: who is hit goes down at the same time, and comes back as soon as the cause
has it.

Nothing here asks a broker anything: that would disturb what is measured.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.availability.matrix import Cause
from penstock.testing.managed_process import STOP_TIMEOUT_S, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.testing.shard_processes import ShardProcesses

PAUSE_S = 5.0
"""How long a paused broker hangs: five election timeouts, and longer than the clients wait for an answer."""
GONE_S = 2.0
"""How long a deleted broker is away: about what a pod takes to be scheduled and started again."""


class Absence(NamedTuple):
    """Seconds for which brokers are away, where the cause does not bring them back at once."""

    paused_s: float = PAUSE_S
    gone_s: float = GONE_S

    def of(self, cause: Cause) -> float:
        """For that cause; 0.0: they are started at once."""
        return {Cause.PAUSE: self.paused_s, Cause.DELETE: self.gone_s}.get(cause, 0.0)


_SIGNALS = {
    Cause.CRASH: signal.SIGKILL,
    Cause.STOP: signal.SIGTERM,
    Cause.PAUSE: signal.SIGSTOP,
    Cause.DELETE: signal.SIGTERM,
    Cause.WIPE: signal.SIGKILL,
}


def strike(shard: ShardProcesses, cause: Cause, victims: Sequence[int]) -> None:
    """All victims are hit; returns when that has happened to the last. Raises ServerError when one does not end."""
    for ordinal in victims:
        shard.brokers[ordinal].send_signal(_SIGNALS[cause])
    if cause is Cause.PAUSE:
        return
    for ordinal in victims:
        broker = shard.brokers[ordinal]
        shard.wait_until(lambda broker=broker: not broker.running, "end of a broker", STOP_TIMEOUT_S)  # type: ignore[misc]
        if _SIGNALS[cause] is signal.SIGTERM and broker.exit_code:
            raise ServerError(
                f"broker {ordinal} ended with {broker.exit_code}; its log ends:\n{broker.tail()}"
            )
    for ordinal in victims:
        if cause is Cause.DELETE:
            shard.forget(ordinal)
        elif cause is Cause.WIPE:
            shard.empty(ordinal)


def restore(shard: ShardProcesses, cause: Cause, victims: Sequence[int], enough: int) -> float | None:
    """Starts or continues them, the first of them last: it led. Returns the moment (monotonic seconds) at which as many
    brokers as are needed were back; None when they never were too few."""
    there = shard.replicas - len(victims)
    moment = None
    for ordinal in reversed(victims):
        if there + 1 == enough:
            moment = time.monotonic()
        if cause is Cause.PAUSE:
            shard.resume(ordinal)
        else:
            shard.brokers[ordinal].launch_only()
        there += 1
    return moment
