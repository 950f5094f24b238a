"""The listener over a real socket, with our own codec as the client: ApiVersions, Produce, Fetch, Metadata, errors."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from penstock.codec.kafka.apis import APIS, Api
from penstock.codec.kafka.generated import metadata
from penstock.codec.kafka.generated.join_group import JoinGroupRequestProtocol
from penstock.listeners.kafka.handlers.endpoint import CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED
from penstock.model.errors import ErrorCode, PenstockError
from penstock.testing.kafka_wire import (
    KafkaWire,
    ServedWire,
    batch_of,
    decodable_versions,
    fake_broker,
    to_fetch,
    to_produce,
    until,
)

pytestmark = pytest.mark.asyncio


# --- every API answers every version ----------------------------------------------------------------


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
async def test_each_version_answers_an_empty_request(broker: ServedWire, api: Api) -> None:
    for version in range(api.first_decodable, api.maximum + 1):
        fields: dict[str, Any] = {}
        if api.name == "JoinGroup":
            fields = {"protocols": [JoinGroupRequestProtocol(name="range")]}
        if api.name == "Produce":
            fields = {"acks": 1}
        response = await broker.wire.ask(api.name, version, **fields)
        assert type(response) is api.response_class


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
async def test_a_refusal_has_a_shape_in_every_version(broker: ServedWire, api: Api) -> None:
    """Every service refuses; no version may end in a closed connection or an encoding that does not exist."""
    refusal = PenstockError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "no")

    class Refuses:
        def __getattr__(self, name: str) -> Any:
            raise refusal

    broker.listener.services = broker.listener.services._replace(
        data=Refuses(), topics=Refuses(), groups=Refuses()
    )
    named: dict[str, dict[str, Any]] = {
        "Produce": {"acks": 1, "topic_data": to_produce("t", b"x")},
        "Fetch": {"topics": to_fetch("t", 0)},
        "Metadata": {"topics": [metadata.MetadataRequestTopic(name="t")]},
    }
    for version in range(api.first_decodable, api.maximum + 1):
        response = await broker.wire.ask(api.name, version, **named.get(api.name, {}))
        assert type(response) is api.response_class
    assert not broker.wire.reader.at_eof()


# --- ApiVersions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
async def test_api_versions_lists_what_is_served_and_no_feature(broker: ServedWire, version: int) -> None:
    response = await broker.wire.ask("ApiVersions", version)
    served = {each.api_key: (each.min_version, each.max_version) for each in response.api_keys}
    assert served == {key: (api.minimum, api.maximum) for key, api in APIS.items()}
    assert served[0] == (0, 11), "librdkafka drops compression when Produce does not begin at 0"
    assert response.supported_features == []
    assert response.finalized_features == []


async def test_an_unknown_api_versions_version_is_answered_in_version_0(broker: ServedWire) -> None:
    await broker.wire.send(struct.pack(">ihhih", 13, 18, 99, 42, 1) + b"c\x00\x01")
    frame = await broker.wire.read_frame()
    correlation_id, code, count = struct.unpack_from(">ihi", frame)
    assert (correlation_id, code, count) == (42, ErrorCode.UNSUPPORTED_VERSION, 1)
    assert struct.unpack_from(">hhh", frame, 10) == (18, 0, 4)
    assert await broker.wire.ask("ApiVersions", 0), "the connection goes on"


# --- Produce ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", decodable_versions("Produce"))
async def test_produce_and_fetch_bring_the_same_bytes(broker: ServedWire, version: int) -> None:
    broker.cluster.topics.create("t")
    sent = batch_of(b"one", b"two")
    response = await broker.wire.ask("Produce", version, acks=-1, topic_data=to_produce("t", sent))
    (partition,) = response.responses[0].partition_responses
    assert (partition.error_code, partition.base_offset) == (0, 0)
    fetched = await broker.wire.ask("Fetch", 12, topics=to_fetch("t", 0))
    (data,) = fetched.responses[0].partitions
    assert bytes(data.records) == sent
    assert (data.high_watermark, data.last_stable_offset, data.log_start_offset) == (2, 2, 0)


async def test_produce_tells_each_partition_its_error(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    topics = to_produce("t", batch_of(b"x")) + to_produce("missing", batch_of(b"y"))
    response = await broker.wire.ask("Produce", 9, acks=1, topic_data=topics)
    codes = {topic.name: topic.partition_responses[0].error_code for topic in response.responses}
    assert codes == {"t": 0, "missing": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


async def test_produce_with_acks_0_gets_no_response(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    quiet = broker.wire.frame("Produce", 9, acks=0, topic_data=to_produce("t", batch_of(b"x")))
    await broker.wire.send(quiet + broker.wire.frame("ApiVersions", 0))
    correlation_id, _ = await broker.wire.read("ApiVersions", 0)
    assert correlation_id == 2
    assert broker.cluster.data.produced[0][1] == 0


async def test_a_failed_produce_with_acks_0_closes_the_connection(
    broker: ServedWire, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.wire.send(broker.wire.frame("Produce", 9, acks=0, topic_data=to_produce("gone", b"x")))
    assert await broker.wire.is_closed()
    assert "acks=0 failed with UNKNOWN_TOPIC_OR_PARTITION for partition 0 of topic 'gone'" in caplog.text


async def test_impossible_acks_are_refused(broker: ServedWire) -> None:
    response = await broker.wire.ask("Produce", 9, acks=2, topic_data=to_produce("t", batch_of(b"x")))
    assert response.responses[0].partition_responses[0].error_code == ErrorCode.INVALID_REQUIRED_ACKS


async def test_pipelined_produce_requests_are_answered_in_order(broker: ServedWire) -> None:
    data = broker.cluster.data
    data.holding = True
    for _ in range(3):
        await broker.wire.send(
            broker.wire.frame("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"x")))
        )
    await until(lambda: len(data.held) == 3, "three requests run at once")
    for index in (2, 1, 0):
        data.let_go(index)
    assert [(await broker.wire.read("Produce", 9))[0] for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_produce_before_record_batches_is_answered_unsupported(
    broker: ServedWire, version: int
) -> None:
    body = struct.pack(">hii", 1, 1000, 1) + struct.pack(">h", 1) + b"t" + struct.pack(">i", 2)
    body += struct.pack(">ii", 4, 3) + b"old" + struct.pack(">ii", 5, -1)
    content = struct.pack(">hhih", 0, version, 9, -1) + body
    await broker.wire.send(struct.pack(">i", len(content)) + content)
    frame = await broker.wire.read_frame()
    partition = ">ihq" if version < 2 else ">ihqq"
    position = 4 + 4 + 3 + 4
    assert struct.unpack_from(">ii", frame) == (9, 1)
    for index in (4, 5):
        values = struct.unpack_from(partition, frame, position)
        assert values[:3] == (index, ErrorCode.UNSUPPORTED_VERSION, -1)
        position += struct.calcsize(partition)
    assert len(frame) - position == (4 if version else 0)


# --- Fetch -----------------------------------------------------------------------------------------


async def test_fetch_waits_for_the_next_batch(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    await broker.wire.send(
        broker.wire.frame("Fetch", 12, topics=to_fetch("t", 0), min_bytes=1, max_wait_ms=9000)
    )
    await until(lambda: len(broker.cluster.data.waiting) == 1, "the fetch waits")
    other = await KafkaWire.connect(broker.listener.address)
    await other.ask("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"late")))
    _, response = await broker.wire.read("Fetch", 12)
    assert bytes(response.responses[0].partitions[0].records).endswith(batch_of(b"late")[61:])
    await other.close()


async def test_fetch_keeps_no_session(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    opened = await broker.wire.ask("Fetch", 12, topics=to_fetch("t", 0), session_epoch=0)
    assert (opened.error_code, opened.session_id, len(opened.responses)) == (0, 0, 1)
    for session in (0, 77):
        continued = await broker.wire.ask("Fetch", 12, session_id=session, session_epoch=1)
        assert continued.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    closed = await broker.wire.ask("Fetch", 12, session_id=77, session_epoch=-1, topics=to_fetch("t", 0))
    assert (closed.error_code, len(closed.responses)) == (0, 1)


@pytest.mark.parametrize(("isolation", "aborted"), [(0, None), (1, [])])
async def test_fetch_lists_no_aborted_transactions(
    broker: ServedWire, isolation: int, aborted: list[Any] | None
) -> None:
    broker.cluster.topics.create("t")
    response = await broker.wire.ask("Fetch", 12, topics=to_fetch("t", 0), isolation_level=isolation)
    assert response.responses[0].partitions[0].aborted_transactions == aborted


async def test_fetch_honours_max_bytes_and_our_own_bound(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    await broker.wire.ask("Fetch", 12, topics=to_fetch("t", 0), max_bytes=1234)
    await broker.wire.ask("Fetch", 12, topics=to_fetch("t", 0), max_bytes=2**31 - 1)
    assert broker.cluster.data.fetch_limits == [1234, broker.listener.limits.fetch_bytes_max]


async def test_a_waiting_fetch_is_given_up_with_its_connection(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    await broker.wire.send(
        broker.wire.frame("Fetch", 12, topics=to_fetch("t", 0), min_bytes=1, max_wait_ms=60_000)
    )
    await until(lambda: len(broker.cluster.data.waiting) == 1, "the fetch waits")
    broker.wire.reset()
    await until(lambda: broker.cluster.data.waiting[0].cancelled(), "the fetch is cancelled")


# --- errors ----------------------------------------------------------------------------------------


async def test_a_mistake_of_ours_is_logged_and_answered(
    broker: ServedWire, caplog: pytest.LogCaptureFixture
) -> None:
    broker.cluster.topics.failure = ZeroDivisionError("secret detail")
    topics = [metadata.MetadataRequestTopic(name="t")]
    response = await broker.wire.ask("Metadata", 12, topics=topics)
    assert response.topics[0].error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert "secret detail" in caplog.text
    broker.cluster.data.failure = KeyError("x")
    answer = await broker.wire.ask("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"x")))
    (partition,) = answer.responses[0].partition_responses
    assert partition.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert broker.listener.counters.internal_errors == 2


async def test_a_refused_produce_has_the_error_and_sentence_for_each_partition(broker: ServedWire) -> None:
    broker.cluster.data.failure = PenstockError(ErrorCode.NOT_ENOUGH_REPLICAS, "two are needed")
    answer = await broker.wire.ask("Produce", 8, acks=-1, topic_data=to_produce("t", batch_of(b"x")))
    (partition,) = answer.responses[0].partition_responses
    assert (partition.error_code, partition.error_message) == (
        ErrorCode.NOT_ENOUGH_REPLICAS,
        "two are needed",
    )


async def test_an_error_that_a_version_does_not_know_is_answered_by_its_older_name(
    broker: ServedWire,
) -> None:
    broker.cluster.data.failure = PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, "disk")
    for version, code in ((3, ErrorCode.NOT_LEADER_OR_FOLLOWER), (4, ErrorCode.KAFKA_STORAGE_ERROR)):
        answer = await broker.wire.ask("Produce", version, acks=1, topic_data=to_produce("t", b"x"))
        assert answer.responses[0].partition_responses[0].error_code == code


# --- Metadata and cluster --------------------------------------------------------------------------


@pytest.mark.parametrize("version", decodable_versions("Metadata"))
async def test_metadata_all_none_and_named(broker: ServedWire, version: int) -> None:
    for name in ("a", "b"):
        broker.cluster.topics.create(name, 2)
    everything = await broker.wire.ask("Metadata", version, topics=None if version else [])
    assert [topic.name for topic in everything.topics] == ["a", "b"]
    assert len(everything.topics[0].partitions) == 2
    assert (everything.brokers[0].host, everything.brokers[0].port) == broker.listener.address
    if version:
        assert (await broker.wire.ask("Metadata", version, topics=[])).topics == []
    named = await broker.wire.ask("Metadata", version, topics=[metadata.MetadataRequestTopic(name="b")])
    assert [topic.name for topic in named.topics] == ["b"]
    if version >= 10:
        assert named.topics[0].topic_id == broker.cluster.topics.topic_id("b")


async def test_metadata_creates_missing_topics_only_when_asked(broker: ServedWire) -> None:
    topics = [metadata.MetadataRequestTopic(name="new")]
    refused = await broker.wire.ask("Metadata", 12, topics=topics, allow_auto_topic_creation=False)
    assert refused.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    created = await broker.wire.ask("Metadata", 12, topics=topics, allow_auto_topic_creation=True)
    assert created.topics[0].error_code == 0
    older = await broker.wire.ask("Metadata", 3, topics=[metadata.MetadataRequestTopic(name="older")])
    assert older.topics[0].error_code == 0


async def test_metadata_by_id_from_version_12_on(broker: ServedWire) -> None:
    broker.cluster.topics.create("a")
    known = broker.cluster.topics.topic_id("a")
    topics = [
        metadata.MetadataRequestTopic(name=None, topic_id=known),
        metadata.MetadataRequestTopic(name=None, topic_id=b"?" * 16),
    ]
    found = await broker.wire.ask("Metadata", 12, topics=topics)
    assert [(topic.name, topic.error_code) for topic in found.topics] == [
        ("a", 0),
        (None, ErrorCode.UNKNOWN_TOPIC_ID),
    ]
    refused = await broker.wire.ask("Metadata", 10, topics=topics)
    assert [(topic.name, topic.error_code) for topic in refused.topics] == [
        ("", ErrorCode.INVALID_REQUEST)
    ] * 2


async def test_authorized_operations_only_when_asked(broker: ServedWire) -> None:
    broker.cluster.topics.create("a")
    quiet = await broker.wire.ask("Metadata", 9, topics=None)
    assert quiet.cluster_authorized_operations == OPERATIONS_NOT_ASKED
    assert quiet.topics[0].topic_authorized_operations == OPERATIONS_NOT_ASKED
    asked = await broker.wire.ask(
        "Metadata",
        9,
        topics=None,
        include_cluster_authorized_operations=True,
        include_topic_authorized_operations=True,
    )
    assert asked.cluster_authorized_operations == CLUSTER_OPERATIONS
    assert asked.topics[0].topic_authorized_operations > 0
    cluster = await broker.wire.ask("DescribeCluster", 1)
    assert cluster.cluster_authorized_operations == OPERATIONS_NOT_ASKED
    assert cluster.brokers[0].port == broker.listener.address[1]
    assert (await broker.wire.ask("DescribeCluster", 1, endpoint_type=2)).error_code == 114


# --- the identity that services see, and the end ---------------------------------------------------


async def test_services_are_told_who_asks(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    for client_id in ("first", "second", None):
        frame = broker.wire.frame(
            "Produce", 9, client_id=client_id, acks=1, topic_data=to_produce("t", batch_of(b"x"))
        )
        await broker.wire.send(frame)
        await broker.wire.read("Produce", 9)
    contexts = [context for context, _ in broker.cluster.data.produced]
    assert [context.client_id for context in contexts] == ["first", "second", ""]
    assert {(each.listener, each.protocol, each.client_host) for each in contexts} == {
        ("internal", "kafka", "127.0.0.1")
    }
    assert broker.listener.counters.requests_by_api()["Produce"] == 3
    shared = broker.listener.counters.shared()
    assert {api: duration.count for api, duration in shared.durations.items()} == {"Produce": 3}


async def test_stop_answers_what_is_in_flight_and_closes() -> None:
    async with fake_broker() as (cluster, listener):
        cluster.topics.create("t")
        cluster.data.holding = True
        busy = await KafkaWire.connect(listener.address)
        waiting = await KafkaWire.connect(listener.address)
        await busy.send(busy.frame("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"x"))))
        await until(lambda: len(cluster.data.held) == 1, "the produce request runs")
        await waiting.send(
            waiting.frame("Fetch", 12, topics=to_fetch("t", 1), min_bytes=1, max_wait_ms=60_000)
        )
        await until(lambda: len(cluster.data.waiting) == 1, "the fetch waits")
        stopping = asyncio.create_task(listener.stop())
        assert await waiting.is_closed()
        cluster.data.let_go(0)
        assert (await busy.read("Produce", 9))[0] == 1
        assert await busy.is_closed()
        await stopping
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await KafkaWire.connect(cluster.topics.address)
        for wire in (busy, waiting):
            await wire.close()
