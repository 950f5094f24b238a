"""The dozen: what happens to a shard that only Kubernetes can show, each under a continuous load, in every mode.

A cell is a mode and a cause. Its scenario leaves the shard whole, its line says how long nothing was acknowledged and what
became of the messages, and its times are held against bounds. The bounds are those of a machine that does little else. The
tests allow STARVED times as much, beyond what is usual there before anything is broken: two cores that also run four nodes, a
load, and the start of every pod starve brokers for longer than a hand-over lasts. The line has the figure as it was.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from continuous_load import SILENCE_MS_MAX, continuous_load
from kafka_load import CLIENT_TIMEOUTS
from load import PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from continuous_load import ContinuousLoad
    from environment import Environment
    from modes import Mode
    from shard import Shard

STARVED = 3


class Bound(NamedTuple):
    """Milliseconds without an acknowledged write: at most so many at half of the faults, and at the worst of them."""

    p50_ms: int
    max_ms: int


CONTAINER_CRASH = Bound(3_000, 8_000)
NODE_LOSS = Bound(15_000, 15_000)
HAND_OVER = Bound(500, 500)
UNNOTICED = HAND_OVER
"""What does not concern the leader costs clients no more than a hand-over."""
STARTS = CONTAINER_CRASH
"""Where several processes start at once and take the cores: it is not the time that is in question."""


@dataclass(frozen=True)
class Cell:
    """A whole shard of a mode, to be broken under load; `tell` has a line printed at the end of the session."""

    mode: Mode
    shard: Shard
    topic: str
    environment: Environment
    tell: Callable[[str, object], None]
    payload_bytes: int = PAYLOAD_BYTES

    @contextmanager
    def load(
        self, cause: str, bound: Bound | None = None, silence_ms_max: int = SILENCE_MS_MAX
    ) -> Iterator[ContinuousLoad]:
        """Messages flow inside; afterwards the cell's line is told, and its faults have to be within the bound."""
        image, bootstrap = self.environment.client_image, self.shard.bootstrap
        with continuous_load(
            self.shard.kube, image, bootstrap, self.topic, silence_ms_max, self.payload_bytes
        ) as load:
            yield load
        self.tell("cell", load.line(f"{self.mode.name}, {cause}"))
        if bound is not None:
            check(load.without_ack_ms(), load.usual_ms(), bound)


def check(times: list[int], usual_ms: int, bound: Bound) -> None:
    """Raises AssertionError when faults cost more than STARVED times the bound, beyond what is usual."""
    half = sorted(times)[(len(times) - 1) // 2] - usual_ms
    assert half <= STARVED * bound.p50_ms, f"{times} ms without an acknowledgement, {bound}"
    assert max(times) - usual_ms <= STARVED * bound.max_ms, f"{times} ms without an acknowledgement, {bound}"


def timeouts() -> str:
    """What the clients' patience is, for people: a good part of every figure."""
    return "clients: " + ", ".join(f"{name}={value}" for name, value in CLIENT_TIMEOUTS.items())
