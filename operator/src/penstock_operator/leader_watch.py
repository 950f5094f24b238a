"""The loop that asks brokers who leads, and wakes the clusters where somebody else does. Decisions are in
`reconcile.leaders`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError
from penstock_operator.snapshot.broker import parse_cluster

if TYPE_CHECKING:
    from penstock_operator.reconcile.cluster import Brokers
    from penstock_operator.reconcile.leaders import Leaders, Question
    from penstock_operator.reconcile.ports import Key

logger = logging.getLogger(__name__)

POLL_S: Final = (
    1.0  # what a failover that no pod shows waits for at most, where the broker that is asked knows of it
)
ANSWER_S: Final = 1.0  # a broker that takes longer is passed over
QUESTIONS_MAX: Final = 32  # under way at once


class LeaderWatch:
    """Asks one broker of each shard per turn; `wake` is told of clusters with news."""

    def __init__(self, leaders: Leaders, brokers: Brokers, wake: Callable[[Key], None]) -> None:
        self._leaders = leaders
        self._brokers = brokers
        self._wake = wake

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.turn()

    async def turn(self) -> None:
        """One round of questions."""
        places = asyncio.Semaphore(QUESTIONS_MAX)

        async def ask(question: Question) -> None:
            async with places:
                await self._ask(question)

        async with asyncio.TaskGroup() as asking:
            for question in self._leaders.questions():
                asking.create_task(ask(question))

    async def _ask(self, question: Question) -> None:
        for pod, address in question.brokers:
            try:
                async with asyncio.timeout(ANSWER_S):
                    report = parse_cluster(await self._brokers.at(address).cluster())
            except (AdminError, AdminUnreachableError, TimeoutError, ValueError) as error:
                logger.debug("broker does not say who leads", extra={"pod": pod, "why": str(error)})
                continue
            if self._leaders.answered(question.shard, pod, report):
                self._wake(question.shard[0])
            return
