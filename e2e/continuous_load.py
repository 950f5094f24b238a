"""A producer and a consumer that go on while a scenario breaks things, and the verdict of their ledger at the end.

The load is a pod of `pod_load.py` that is told to stop: it is idempotent at acks=all, a consumer reads along, and at the
end everything is read once more from the beginning. Nothing sent may be unacknowledged, lost, doubled or out of order.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kube import wait_for
from load import LoadPod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kube import Kube
    from load import Report

RATE = 500.0
"""Messages per second: enough that a kill meets work in flight, little enough for three brokers on two cores."""
MESSAGES_MAX = 150_000
"""Where a load ends that nobody stops: five minutes."""
FLOW_MESSAGES = 500
"""How many more acknowledgements show that messages flow: far more than were on their way when something broke."""
FLOW_SECONDS_MAX = 60.0
SILENCE_MS_MAX = 10_000
"""The longest time without an acknowledgement where another broker takes over: ten election timeouts, for two cores that
do much else. The figures of a quiet machine are in docs/performance.md."""
STOPPED_MS_MAX = 90_000
"""The same where messages cannot be taken for a while."""


@dataclass
class ContinuousLoad:
    """A load that runs; `report` is there once it has ended."""

    pod: LoadPod
    silence_ms_max: int = SILENCE_MS_MAX
    report: Report | None = None

    def wait_flow(self) -> None:
        """Waits until messages are acknowledged that were not on their way before."""
        wanted = self._acked() + FLOW_MESSAGES
        wait_for(
            f"{wanted} acknowledgements",
            lambda: self._acked() >= wanted,
            seconds=FLOW_SECONDS_MAX,
            last_seen=lambda: str(self.pod.progress()),
        )

    def line(self, name: str) -> str:
        """What came of it, for people; the longest time between two acknowledgements is that of the whole load."""
        assert self.report is not None, "the load has not ended"
        verdict, silence = self.report.verdict, self.report.silence
        return (
            f"{name}: sent={verdict.sent} acked={verdict.acked} received={verdict.received} lost={verdict.lost}"
            f" duplicated={verdict.duplicated} longest_silence_ms={silence.length_ms if silence else 0}"
        )

    def finish(self) -> None:
        """Ends the load and judges it. Raises AssertionError when anything is amiss."""
        self.pod.stop()
        self.report = self.pod.ended()
        verdict = self.report.verdict
        assert verdict.good, verdict
        assert (verdict.unacked, verdict.duplicated) == (0, 0), verdict
        assert verdict.received == verdict.sent, verdict
        silence = self.report.silence
        assert silence is None or silence.length_ms <= self.silence_ms_max, silence

    def _acked(self) -> int:
        return self.pod.progress().get("acked", 0)


@contextmanager
def continuous_load(
    kube: Kube, image: str, bootstrap: str, topic: str, silence_ms_max: int = SILENCE_MS_MAX
) -> Iterator[ContinuousLoad]:
    """Messages flow inside, and again before the end; then the load is judged. A failure inside leaves the pod for the
    dump."""
    pod = LoadPod.start(kube, image, bootstrap, topic, MESSAGES_MAX, rate=RATE, read_along=True)
    load = ContinuousLoad(pod, silence_ms_max)
    load.wait_flow()
    yield load
    load.wait_flow()
    load.finish()
