"""What the routes of queue groups take and give, as the structs that decode, encode and document it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from penstock.listeners.http.limits import (
    LEASE_MESSAGES_MAX,
    LEASE_WAIT_MS_MAX,
    MEMBER_LENGTH_MAX,
    RECEIPT_LENGTH_MAX,
    RECEIPTS_MAX,
)
from penstock.listeners.http.models import ContentOut, Format
from penstock.model.queue_settings import DELAY_MS_MAX, LEASE_MS_MAX, LEASE_MS_MIN

LeaseMs = Annotated[int, Meta(ge=LEASE_MS_MIN, le=LEASE_MS_MAX)]
ReceiptText = Annotated[str, Meta(max_length=RECEIPT_LENGTH_MAX)]
Receipts = Annotated[list[ReceiptText], Meta(min_length=1, max_length=RECEIPTS_MAX)]


class LeaseBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """How many messages at most, how long to wait when there are none, for how long they are held (as the group is declared
    when left out), and who asks, a name for people. `format` is as for reading a partition."""

    max: Annotated[int, Meta(ge=1, le=LEASE_MESSAGES_MAX)] = 1
    wait_ms: Annotated[int, Meta(ge=0, le=LEASE_WAIT_MS_MAX)] = 0
    lease_ms: LeaseMs | None = None
    member: Annotated[str, Meta(max_length=MEMBER_LENGTH_MAX)] = ""
    format: Format = "auto"


class ReceiptsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is done, or given back."""

    receipts: Receipts


class RejectBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What failed. Tried again after `delayMs` (the group's back-off when left out) unless `retry` is false: then it goes to
    the dead-letter topic."""

    receipts: Receipts
    retry: bool = True
    delay_ms: Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] | None = None


class ExtendBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What is held on to, for so long from now on."""

    receipts: Receipts
    lease_ms: LeaseMs


class LeasedMessage(msgspec.Struct, rename="camel"):
    """One message that is yours until `leaseUntil`, milliseconds since the epoch by the leader's clock, unless it is settled with
    its `receipt` before. `deliveries` counts how often it was handed out, this time included."""

    receipt: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | ContentOut | None
    value: str | ContentOut | None
    headers: dict[str, str | ContentOut | None] | list[tuple[str, str | ContentOut | None]]
    deliveries: int
    lease_until: int


class LeaseReply(msgspec.Struct, rename="camel", omit_defaults=True):
    """What was granted. `windowFull` says that the group's `maxInFlight` is reached: nothing new is granted before some of what
    is in flight is settled."""

    messages: list[LeasedMessage]
    window_full: bool = False


class ReceiptProblem(msgspec.Struct):
    """Why a receipt was not taken: `code` for programs, `detail` for people."""

    code: str
    detail: str


class ReceiptOutcome(msgspec.Struct):
    """What became of one receipt; without `error` it was done."""

    receipt: str
    error: ReceiptProblem | UnsetType = UNSET


class ReceiptsReply(msgspec.Struct):
    """One result per receipt, in the order they were sent."""

    results: list[ReceiptOutcome]
