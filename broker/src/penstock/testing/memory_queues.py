"""Queue groups as far as HTTP uses them: a test says what is leased and what becomes of receipts, and sees what was asked."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.model.errors import PenstockError
from penstock.service.context import RequestContext
from penstock.service.queue_api import Leased, LeaseRequest, ReceiptResult


class MemoryQueues:
    """QueueService. `asked` has every request: ("lease", request), or (verb, group, receipts, what else was said)."""

    def __init__(self) -> None:
        self.leased = Leased()
        self.refusal: PenstockError | None = None
        self.results: dict[str, ReceiptResult] = {}
        self.asked: list[tuple[object, ...]] = []

    async def lease(self, context: RequestContext, request: LeaseRequest) -> Leased:
        """What the test said."""
        self._note("lease", request)
        return self.leased

    async def acknowledge(
        self, context: RequestContext, group: str, receipts: Sequence[str]
    ) -> list[ReceiptResult]:
        """What the test said of each; done where it said nothing."""
        return self._settled("acknowledge", group, receipts)

    async def release(
        self, context: RequestContext, group: str, receipts: Sequence[str]
    ) -> list[ReceiptResult]:
        """As above."""
        return self._settled("release", group, receipts)

    async def reject(
        self,
        context: RequestContext,
        group: str,
        receipts: Sequence[str],
        *,
        retry: bool = True,
        delay_ms: int | None = None,
    ) -> list[ReceiptResult]:
        """As above."""
        return self._settled("reject", group, receipts, retry, delay_ms)

    async def extend(
        self, context: RequestContext, group: str, receipts: Sequence[str], lease_ms: int
    ) -> list[ReceiptResult]:
        """As above."""
        return self._settled("extend", group, receipts, lease_ms)

    def _note(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal

    def _settled(self, verb: str, group: str, receipts: Sequence[str], *more: object) -> list[ReceiptResult]:
        self._note(verb, group, list(receipts), *more)
        return [self.results.get(receipt, ReceiptResult(receipt)) for receipt in receipts]
