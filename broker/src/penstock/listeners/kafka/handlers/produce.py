"""Produce: batches go to the data service as views of what was read; results come back per partition.

The hot path: no task, no copy of records, no parsing of batches. Versions 0 to 2, which carry message formats that
are not served, are in `produce_legacy`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from penstock.codec.kafka.generated.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from penstock.listeners.kafka.errors import PeerFaultError, Refusal, wire_code
from penstock.listeners.kafka.handlers.endpoint import Answered, by_topic
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode
from penstock.service.api import AppendResult, ProduceBatches

API_KEY = 0
VALID_ACKS = (-1, 0, 1)


def start_produce(call: Call, request: ProduceRequest) -> Awaitable[list[AppendResult]] | Answered:
    """Hands the batches over; done when the service says that `acks` is satisfied."""
    acks = request.acks
    if acks not in VALID_ACKS:
        sentence = f"acks must be -1 (all), 0 or 1, not {acks}"
        return Answered(
            refuse_produce(request, call.version, Refusal(ErrorCode.INVALID_REQUIRED_ACKS, sentence))
        )
    batches = [
        ProduceBatches(topic.name, partition.index, partition.records)
        for topic in request.topic_data
        for partition in topic.partition_data
    ]
    return call.services.data.produce(
        call.context, batches, acks, request.timeout_ms, request.transactional_id
    )


def finish_produce(
    request: ProduceRequest, version: int, results: Sequence[AppendResult]
) -> ProduceResponse | None:
    """The response; None for acks=0. An error at acks=0 closes the connection, as Kafka does, so that the producer
    notices and asks for metadata again."""
    if request.acks == 0:
        for result in results:
            if result.error:
                raise PeerFaultError(_acks_0_fault(result.error, result.topic, result.partition))
        return None
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=name, partition_responses=[_partition(result, version) for result in of]
            )
            for name, of in by_topic(results).items()
        ]
    )


def _partition(result: AppendResult, version: int) -> PartitionProduceResponse:
    return PartitionProduceResponse(
        index=result.partition,
        error_code=wire_code(API_KEY, version, result.error) if result.error else 0,
        base_offset=result.base_offset,
        log_append_time_ms=result.log_append_time_ms,
        log_start_offset=result.log_start_offset,
        error_message=result.message,
    )


def refuse_produce(request: ProduceRequest, version: int, refusal: Refusal) -> ProduceResponse:
    """The error for every partition."""
    if request.acks == 0:
        raise PeerFaultError(_acks_0_fault(refusal.code, None, None))
    code = wire_code(API_KEY, version, refusal.code)
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                partition_responses=[
                    PartitionProduceResponse(
                        index=partition.index, error_code=code, base_offset=-1, error_message=refusal.sentence
                    )
                    for partition in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )


def _acks_0_fault(code: int, topic: str | None, partition: int | None) -> str:
    where = "" if topic is None else f" for partition {partition} of topic {topic!r}"
    return (
        f"a produce request with acks=0 failed with {ErrorCode(code).name}{where}; "
        "it has no response that could say so"
    )
