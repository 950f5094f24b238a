"""What the tracing scenarios play: messages before, during and after a failover, each followed from its producer to the last
commit; and the judgement of every span that came of it.

The stage is a kind cluster or processes of this machine. Nothing is timed: each step waits until the one before it is done,
and the leader is taken away only when its spans have arrived, for what a killed broker had not sent is lost by design.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from expected_spans import PRODUCER, Expected, Led, Read, Sent
from span_rows import BROKER, Row, differences, mistimed, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.testing.otlp_receiver import ReceivedSpan
    from traced_app import TracedApp

TOPIC = "payments"
FIRST_READER, LATE_READER = "billing", "audit"


class Stage(Protocol):
    """A shard whose brokers and applications send their spans to one collector."""

    expected: Expected

    def application(self, role: str, name: str) -> TracedApp:
        """Starts an instrumented producer or consumer."""
        ...

    def leading(self) -> Led:
        """Who leads now; waits until somebody does."""
        ...

    def take_leader_away(self) -> None:
        """Kills the leader's process without a goodbye."""
        ...

    def wait_whole(self) -> None:
        """Waits until all brokers are in sync."""
        ...

    def spans(self) -> list[ReceivedSpan]:
        """Everything that the collector took."""
        ...

    def wait_for(self, what: str, holds: Callable[[], bool], seen: Callable[[], str]) -> None:
        """Waits until it holds. Raises AssertionError with what was seen last."""
        ...


class Judge:
    """Knows what has happened so far, and which spans that must have left."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.sent: list[Sent] = []
        self.reads: list[Read] = []

    def missing(self, *, of_brokers: bool = False) -> list[str]:
        """Spans that have not come."""
        found = self._found(self._stage.spans())
        wanted = self._stage.expected.rows(self.sent, self.reads)
        return [
            name
            for name, row in wanted.items()
            if name not in found and (not of_brokers or row.resource["service.name"] == BROKER)
        ]

    def wait_complete(self, *, of_brokers: bool = False) -> None:
        """Waits until nothing is missing."""
        missing: list[str] = []

        def complete() -> bool:
            missing[:] = self.missing(of_brokers=of_brokers)
            return not missing

        self._stage.wait_for("every expected span", complete, lambda: f"missing: {', '.join(missing)}")

    def verdict(self) -> str:
        """A line for people on what came. Raises AssertionError with a sentence for each difference."""
        spans = self._stage.spans()
        found = self._found(spans)
        wanted = self._stage.expected.rows(self.sent, self.reads)
        allowed = self._stage.expected.allowed(self.sent, self.reads)
        wrong = differences(found, wanted, allowed) + mistimed(spans)
        assert not wrong, "\n".join(wrong)
        more = sorted(found.keys() - wanted.keys())
        epochs = [sent.led.epoch for sent in self.sent]
        return (
            f"{len(found)} spans of {len(self.sent)} messages are as expected, epochs {epochs}"
            f", beside what must come: {', '.join(more) or 'nothing'}"
        )

    def _found(self, spans: Sequence[ReceivedSpan]) -> dict[str, Row]:
        return rows(spans, TOPIC, [sent.key for sent in self.sent])


def play(stage: Stage) -> str:
    """
    1. A producer sends two messages, a consumer reads and commits them.
    2. The leader is killed. At once, while nobody leads, the producer sends a third message, and later a fourth; the same consumer
       reads and commits these.
    3. A consumer that comes late reads all four: what the killed broker received is delivered by its successor.
    4. Nothing but the expected spans came. Returns a line for people.
    """
    judge = Judge(stage)
    with (
        stage.application("producer", PRODUCER) as shop,
        stage.application("consumer", FIRST_READER) as billing,
    ):
        assert shop.send("order-1", "order-2") == [0, 1]
        before = stage.leading()
        judge.sent += [Sent("order-1", 0, before), Sent("order-2", 1, before)]
        assert billing.receive(2) == [0, 1]
        judge.reads.append(Read(FIRST_READER, tuple(judge.sent), before))
        judge.wait_complete(of_brokers=True)

        stage.take_leader_away()
        assert shop.send("order-3") == [2]
        stage.wait_whole()
        after = stage.leading()
        assert after.epoch > before.epoch, f"{after} after {before}"
        assert shop.send("order-4") == [3]
        judge.sent += [Sent("order-3", 2, after, leaderless=True), Sent("order-4", 3, after)]
        assert billing.receive(2) == [2, 3]
        judge.reads.append(Read(FIRST_READER, tuple(judge.sent[2:]), after))
        with stage.application("consumer", LATE_READER) as audit:
            assert audit.receive(4) == [0, 1, 2, 3]
            audit.end()
        judge.reads.append(Read(LATE_READER, tuple(judge.sent), after))
        billing.end()
        # Spans of a broker come in their order: when those of a last message are there, so is all that was before it.
        assert shop.send("order-5") == [4]
        judge.sent.append(Sent("order-5", 4, after))
        shop.end()
    judge.wait_complete()
    return judge.verdict()
