"""A producer and a consumer that go on while a scenario breaks things, and the verdict of their ledger at the end.

The load is a pod of `pod_load.py` that is told to stop: it is idempotent at acks=all, a consumer reads along, and at the
end everything is read once more from the beginning. Nothing sent may be unacknowledged, lost, doubled or out of order.
How long nothing was acknowledged is told for each `fault`.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kube import wait_for
from load import PAYLOAD_BYTES, LoadPod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kube import Kube
    from load import Report

RATE = 500.0
"""Messages per second: enough that a kill meets work in flight, little enough for three brokers on two cores."""
MESSAGES_MAX = 300_000
"""Where a load ends that nobody stops: ten minutes."""
FLOW_MESSAGES = 500
"""How many more acknowledgements show that messages flow: far more than were on their way when something broke."""
CALM_FLOWS = 2
"""How many times that passes before anything is broken: there the usual silence is looked for."""
FLOW_SECONDS_MAX = 60.0
SILENCE_MS_MAX = 10_000
"""The longest time without an acknowledgement where another broker takes over: ten election timeouts, for two cores that
do much else. The figures of a quiet machine are in docs/performance.md."""
STOPPED_MS_MAX = 90_000
"""The same where messages cannot be taken for a while."""


@dataclass
class ContinuousLoad:
    """A load that runs; `report` is there once it has ended. Times are milliseconds since 1970: kind's nodes have this
    machine's clock."""

    pod: LoadPod
    silence_ms_max: int = SILENCE_MS_MAX
    report: Report | None = None
    calm: tuple[int, int] = (0, 0)
    faults: list[tuple[int, int]] = field(default_factory=list)

    def wait_flow(self, messages: int = FLOW_MESSAGES) -> None:
        """Waits until messages are acknowledged that were not on their way before."""
        wanted = self._acked() + messages
        wait_for(
            f"{wanted} acknowledgements",
            lambda: self._acked() >= wanted,
            seconds=FLOW_SECONDS_MAX,
            last_seen=lambda: str(self.pod.progress()),
        )

    @contextmanager
    def fault(self) -> Iterator[None]:
        """What is broken, and mended, inside is one fault; messages flow again when it is left."""
        began = _now_ms()
        yield
        self.wait_flow()
        self.faults.append((began, _now_ms()))

    def without_ack_ms(self) -> list[int]:
        """The longest time without an acknowledgement that each fault cost, in their order; of the load where none was told."""
        report = self._ended()
        if not self.faults:
            return [report.silence.length_ms if report.silence is not None else 0]
        return [report.silent_ms(*fault) for fault in self.faults]

    def usual_ms(self) -> int:
        """The longest time without an acknowledgement before anything was broken."""
        return self._ended().silent_ms(*self.calm)

    def line(self, name: str) -> str:
        """What came of it, for people."""
        verdict, times = self._ended().verdict, self.without_ack_ms()
        figures = f"{statistics.median(times):.0f}/{max(times)} (p50/max of {len(times)})"
        return (
            f"{name}: without_ack_ms={figures if len(times) > 1 else times[0]} usual_ms={self.usual_ms()}"
            f" acked={verdict.acked} lost={verdict.lost} duplicated={verdict.duplicated}"
            f" out_of_order={verdict.disordered + verdict.misplaced}"
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

    def _ended(self) -> Report:
        assert self.report is not None, "the load has not ended"
        return self.report

    def _acked(self) -> int:
        return self.pod.progress().get("acked", 0)


@contextmanager
def continuous_load(
    kube: Kube,
    image: str,
    bootstrap: str,
    topic: str,
    silence_ms_max: int = SILENCE_MS_MAX,
    payload_bytes: int = PAYLOAD_BYTES,
) -> Iterator[ContinuousLoad]:
    """Messages flow inside, and again before the end; then the load is judged. A failure inside leaves the pod for the
    dump."""
    pod = LoadPod.start(
        *(kube, image, bootstrap, topic, MESSAGES_MAX),
        rate=RATE,
        read_along=True,
        payload_bytes=payload_bytes,
    )
    load = ContinuousLoad(pod, silence_ms_max)
    load.wait_flow()
    began = _now_ms()
    load.wait_flow(CALM_FLOWS * FLOW_MESSAGES)
    load.calm = (began, _now_ms())
    yield load
    load.wait_flow()
    load.finish()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
