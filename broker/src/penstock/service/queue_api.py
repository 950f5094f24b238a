"""The use-cases of queue groups, as every listener sees them: messages are leased, acknowledged, given back or rejected.

Kept beside `group_api`, whose groups read partitions in order. What a member holds it proves with the receipt that came with
the message; receipts are opaque to everybody but the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from penstock.codec.records import Record
from penstock.model.errors import ErrorCode
from penstock.service.context import RequestContext


class LeaseRequest(msgspec.Struct, frozen=True):
    """At most `messages_max` messages, for `lease_ms` (None: as the group is declared). With nothing there it waits up to
    `wait_ms`. `member` is a name for people."""

    group: str
    messages_max: int
    wait_ms: int = 0
    lease_ms: int | None = None
    member: str = ""


class LeasedMessage(NamedTuple):
    """One message of a lease. `deliveries` counts this one too; `lease_until_ms` is a time of the leader's clock."""

    receipt: str
    topic: str
    partition: int
    record: Record
    deliveries: int
    lease_until_ms: int


class Leased(msgspec.Struct):
    """What was granted. `window_full`: nothing new is granted before some of what is in flight is settled."""

    messages: list[LeasedMessage] = []
    window_full: bool = False


class ReceiptResult(NamedTuple):
    """What became of one receipt; `message` says what is wrong and what to do."""

    receipt: str
    error: ErrorCode = ErrorCode.NONE
    message: str = ""


class QueueService(Protocol):
    """Leasing and settling. Every answer is given once what it says is committed; each raises PenstockError where the whole
    request cannot be served."""

    async def lease(self, context: RequestContext, request: LeaseRequest) -> Leased:
        """Grants messages to whoever asks."""
        ...

    async def acknowledge(
        self, context: RequestContext, group: str, receipts: Sequence[str]
    ) -> list[ReceiptResult]:
        """These are done and never delivered again. Results are in the order of the receipts, here and below."""
        ...

    async def release(
        self, context: RequestContext, group: str, receipts: Sequence[str]
    ) -> list[ReceiptResult]:
        """Gives back what was not tried: it may be granted again at once, and the delivery does not count."""
        ...

    async def reject(
        self,
        context: RequestContext,
        group: str,
        receipts: Sequence[str],
        *,
        retry: bool = True,
        delay_ms: int | None = None,
    ) -> list[ReceiptResult]:
        """These failed: tried again after `delay_ms` (None: the group's back-off), or, without `retry` or after the last
        delivery, put into the dead-letter topic."""
        ...

    async def extend(
        self, context: RequestContext, group: str, receipts: Sequence[str], lease_ms: int
    ) -> list[ReceiptResult]:
        """Holds them for `lease_ms` from now on."""
        ...
