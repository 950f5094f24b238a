"""InitProducerId: the identity of an idempotent producer."""

from __future__ import annotations

from penstock.codec.kafka.generated.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.listeners.kafka.errors import Refusal, wire_code
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode

API_KEY = 22
NO_EPOCH = -1


async def init_producer_id(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """A new producer id, or the next epoch of a known one. The service refuses transactional ids."""
    producer_id, epoch = await call.services.data.init_producer_id(
        call.context, request.transactional_id, request.producer_id, request.producer_epoch
    )
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=epoch)


def refuse_init_producer_id(
    request: InitProducerIdRequest, version: int, refusal: Refusal
) -> InitProducerIdResponse:
    """An error as a whole. While nobody leads producers are told what makes each of them try again: an error of leaders is
    not one that they expect here."""
    code = refusal.code
    if code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
        code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    return InitProducerIdResponse(error_code=wire_code(API_KEY, version, code), producer_epoch=NO_EPOCH)
