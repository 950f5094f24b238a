"""What simulated brokers log, kept among the events of their life, for the end of one that went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.world import World


class _Recorder(logging.Handler):
    """Keeps what brokers log among the events."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        who = next(
            (broker.ordinal for broker in self._world.brokers if broker.loop and broker.loop.in_turn), "-"
        )
        self._world.events.append(
            (self._world.agenda.now, f"broker {who} says: {record.msg}", record.args or ())  # type: ignore[arg-type]
        )


@contextmanager
def recorded(world: World) -> Iterator[None]:
    """What brokers log goes to the world's events meanwhile, and nowhere else."""
    logger = logging.getLogger("penstock")
    before = (logger.handlers[:], logger.propagate, logger.level)
    logger.handlers[:], logger.propagate = [_Recorder(world)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
