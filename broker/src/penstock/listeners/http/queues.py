"""`/v1/groups/{group}/…`: leasing the messages of a queue group, and settling them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.listeners.http.content import content_out, headers_out
from penstock.listeners.http.queue_models import (
    ExtendBody,
    LeaseBody,
    LeasedMessage,
    LeaseReply,
    ReceiptOutcome,
    ReceiptProblem,
    ReceiptsBody,
    ReceiptsReply,
    RejectBody,
)
from penstock.listeners.http.routes import Call, NoQuery, Reply, Route, Routes
from penstock.model.errors import ErrorCode
from penstock.service.queue_api import LeaseRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.listeners.http.models import Format
    from penstock.listeners.http.services import HttpServices
    from penstock.service import queue_api

GROUP = "/v1/groups/{group}"


class QueueRoutes:
    """The five routes of queue groups."""

    def __init__(self, services: HttpServices) -> None:
        self._queues = services.queues

    def routes(self) -> Routes:
        """In the order of a message's life."""
        lease: Route[NoQuery, LeaseBody] = Route(
            method="POST",
            path=f"{GROUP}/lease",
            name="lease",
            summary="Leases messages of a queue group: nobody else is given them until the lease ends.",
            handler=self.lease,
            replies={200: LeaseReply},
            query=NoQuery,
            body=LeaseBody,
            waits=True,
        )
        acknowledge: Route[NoQuery, ReceiptsBody] = Route(
            method="POST",
            path=f"{GROUP}/acknowledge",
            name="acknowledge",
            summary="Says that leased messages are done: they are never delivered to the group again.",
            handler=self.acknowledge,
            replies={200: ReceiptsReply},
            query=NoQuery,
            body=ReceiptsBody,
        )
        release: Route[NoQuery, ReceiptsBody] = Route(
            method="POST",
            path=f"{GROUP}/release",
            name="release",
            summary="Gives leased messages back untried: others may have them at once, and the delivery does not count.",
            handler=self.release,
            replies={200: ReceiptsReply},
            query=NoQuery,
            body=ReceiptsBody,
        )
        reject: Route[NoQuery, RejectBody] = Route(
            method="POST",
            path=f"{GROUP}/reject",
            name="reject",
            summary="Says that leased messages failed: they are tried again later, or go to the dead-letter topic.",
            handler=self.reject,
            replies={200: ReceiptsReply},
            query=NoQuery,
            body=RejectBody,
        )
        extend: Route[NoQuery, ExtendBody] = Route(
            method="POST",
            path=f"{GROUP}/extend",
            name="extend",
            summary="Holds leased messages longer.",
            handler=self.extend,
            replies={200: ReceiptsReply},
            query=NoQuery,
            body=ExtendBody,
        )
        return [lease, acknowledge, release, reject, extend]

    async def lease(self, call: Call[NoQuery, LeaseBody]) -> Reply:
        """Messages, once it is committed that they are leased; none when the wait is over."""
        asked = call.body
        leased = await self._queues.lease(
            call.context,
            LeaseRequest(call.path["group"], asked.max, asked.wait_ms, asked.lease_ms, asked.member),
        )
        return Reply(
            LeaseReply([_message(each, asked.format) for each in leased.messages], leased.window_full)
        )

    async def acknowledge(self, call: Call[NoQuery, ReceiptsBody]) -> Reply:
        """A result per receipt, once it is committed."""
        return _reply(await self._queues.acknowledge(call.context, call.path["group"], call.body.receipts))

    async def release(self, call: Call[NoQuery, ReceiptsBody]) -> Reply:
        """A result per receipt, once it is committed."""
        return _reply(await self._queues.release(call.context, call.path["group"], call.body.receipts))

    async def reject(self, call: Call[NoQuery, RejectBody]) -> Reply:
        """A result per receipt, once it is committed."""
        asked = call.body
        return _reply(
            await self._queues.reject(
                call.context,
                call.path["group"],
                asked.receipts,
                retry=asked.retry,
                delay_ms=asked.delay_ms,
            )
        )

    async def extend(self, call: Call[NoQuery, ExtendBody]) -> Reply:
        """A result per receipt, once it is committed."""
        asked = call.body
        return _reply(
            await self._queues.extend(call.context, call.path["group"], asked.receipts, asked.lease_ms)
        )


def _message(leased: queue_api.LeasedMessage, form: Format) -> LeasedMessage:
    record = leased.record
    return LeasedMessage(
        receipt=leased.receipt,
        topic=leased.topic,
        partition=leased.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=content_out(record.key, form),
        value=content_out(record.value, form),
        headers=headers_out(record.headers, form),
        deliveries=leased.deliveries,
        lease_until=leased.lease_until_ms,
    )


def _reply(results: Sequence[queue_api.ReceiptResult]) -> Reply:
    return Reply(
        ReceiptsReply(
            [
                ReceiptOutcome(receipt)
                if error is ErrorCode.NONE
                else ReceiptOutcome(receipt, ReceiptProblem(error.name, message))
                for receipt, error, message in results
            ]
        )
    )
