"""Positions, topics, configuration, groups and producer ids over a real socket, in every version that is served."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.codec.kafka.generated import alter_configs as legacy
from penstock.codec.kafka.generated import create_topics as create
from penstock.codec.kafka.generated import incremental_alter_configs as incremental
from penstock.codec.kafka.generated import list_offsets, offset_fetch
from penstock.codec.kafka.generated.create_partitions import CreatePartitionsTopic
from penstock.codec.kafka.generated.delete_records import DeleteRecordsPartition, DeleteRecordsTopic
from penstock.codec.kafka.generated.delete_topics import DeleteTopicState
from penstock.codec.kafka.generated.describe_configs import DescribeConfigsResource
from penstock.codec.kafka.generated.init_producer_id import InitProducerIdRequest
from penstock.codec.kafka.generated.join_group import JoinGroupRequestProtocol
from penstock.codec.kafka.generated.leave_group import MemberIdentity
from penstock.codec.kafka.generated.offset_commit import (
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from penstock.codec.kafka.generated.offset_delete import (
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from penstock.codec.kafka.generated.offset_for_leader_epoch import (
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from penstock.codec.kafka.generated.sync_group import SyncGroupRequestAssignment
from penstock.listeners.kafka.errors import Refusal
from penstock.listeners.kafka.handlers.producers import refuse_init_producer_id
from penstock.model.errors import ErrorCode
from penstock.testing.kafka_wire import (
    ServedWire,
    batch_of,
    decodable_versions,
    to_produce,
)

pytestmark = pytest.mark.asyncio


# --- positions -------------------------------------------------------------------------------------


async def test_list_offsets(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    await broker.wire.ask("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"a", b"b")))

    async def ask(timestamp: int, version: int, times: int = 1) -> tuple[int, int]:
        one = list_offsets.ListOffsetsPartition(partition_index=0, timestamp=timestamp)
        topics = [list_offsets.ListOffsetsTopic(name="t", partitions=[one] * times)]
        response = await broker.wire.ask("ListOffsets", version, replica_id=-1, topics=topics)
        found = response.topics[0].partitions[0]
        return found.error_code, found.offset

    for version in decodable_versions("ListOffsets"):
        assert await ask(-1, version) == (0, 2)
        assert await ask(-2, version) == (0, 0)
        assert await ask(1001, version) == (0, 0)
        assert await ask(5000, version) == (0, -1)
    assert await ask(-3, 6) == (ErrorCode.UNSUPPORTED_VERSION, -1)
    assert await ask(-4, 7) == (ErrorCode.UNSUPPORTED_VERSION, -1)
    assert await ask(-1, 7, times=2) == (ErrorCode.INVALID_REQUEST, -1)


async def test_epoch_ends_and_deleted_records(broker: ServedWire) -> None:
    broker.cluster.topics.create("t")
    await broker.wire.ask("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"a", b"b")))
    asked = OffsetForLeaderTopic(
        topic="t", partitions=[OffsetForLeaderPartition(partition=0, leader_epoch=1)]
    )
    for version in decodable_versions("OffsetForLeaderEpoch"):
        ends = await broker.wire.ask("OffsetForLeaderEpoch", version, topics=[asked])
        assert (ends.topics[0].partitions[0].leader_epoch, ends.topics[0].partitions[0].end_offset) == (1, 2)
    moved = DeleteRecordsTopic(name="t", partitions=[DeleteRecordsPartition(partition_index=0, offset=1)])
    deleted = await broker.wire.ask("DeleteRecords", 2, topics=[moved], timeout_ms=1000)
    assert deleted.topics[0].partitions[0].low_watermark == 1


# --- topics and configuration ----------------------------------------------------------------------


async def test_create_topics_tells_what_was_made(broker: ServedWire) -> None:
    config = create.CreatableTopicConfig(name="retention.ms", value="1000")
    wanted = create.CreatableTopic(name="t", num_partitions=3, replication_factor=-1, configs=[config])
    response = await broker.wire.ask("CreateTopics", 7, topics=[wanted])
    (made,) = response.topics
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 3, 1)
    assert made.topic_id == broker.cluster.topics.topic_id("t")
    assert [(entry.name, entry.value, entry.config_source) for entry in made.configs] == [
        ("retention.ms", "1000", 1)
    ]
    again = await broker.wire.ask("CreateTopics", 2, topics=[wanted])
    assert again.topics[0].error_code == ErrorCode.TOPIC_ALREADY_EXISTS


async def test_what_is_named_twice_is_refused_alone(broker: ServedWire) -> None:
    topics = [create.CreatableTopic(name=name, num_partitions=1) for name in ("a", "b", "a")]
    response = await broker.wire.ask("CreateTopics", 5, topics=topics)
    assert {topic.name: topic.error_code for topic in response.topics} == {
        "a": ErrorCode.INVALID_REQUEST,
        "b": 0,
    }
    assert list(broker.cluster.topics.topics) == ["b"]
    grown = [CreatePartitionsTopic(name=name, count=4) for name in ("b", "x", "x")]
    result = await broker.wire.ask("CreatePartitions", 3, topics=grown)
    assert {each.name: each.error_code for each in result.results} == {
        "b": 0,
        "x": ErrorCode.INVALID_REQUEST,
    }


async def test_delete_topics_by_name_and_by_id(broker: ServedWire) -> None:
    for name in ("a", "b"):
        broker.cluster.topics.create(name)
    by_name = await broker.wire.ask("DeleteTopics", 5, topic_names=["a", "missing"])
    assert [each.error_code for each in by_name.responses] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    state = DeleteTopicState(name=None, topic_id=broker.cluster.topics.topic_id("b"))
    by_id = await broker.wire.ask("DeleteTopics", 6, topics=[state])
    assert by_id.responses[0].name == "b"
    assert broker.cluster.topics.topics == {}


@pytest.mark.parametrize("version", decodable_versions("DescribeConfigs"))
async def test_describe_configs_of_topic_and_broker(broker: ServedWire, version: int) -> None:
    broker.cluster.topics.create("t")
    resources = [
        DescribeConfigsResource(resource_type=2, resource_name="t", configuration_keys=None),
        DescribeConfigsResource(resource_type=4, resource_name="0", configuration_keys=["password"]),
        DescribeConfigsResource(resource_type=4, resource_name="9", configuration_keys=None),
        DescribeConfigsResource(resource_type=8, resource_name="t", configuration_keys=None),
        DescribeConfigsResource(resource_type=2, resource_name="missing", configuration_keys=None),
    ]
    later = {"include_documentation": True} if version >= 3 else {}
    response = await broker.wire.ask(
        "DescribeConfigs", version, resources=resources, include_synonyms=True, **later
    )
    topic, secret, *refused = response.results
    (entry,) = topic.configs
    assert (entry.name, entry.value, entry.config_source) == ("retention.ms", "604800000", 5)
    assert [(each.name, each.source) for each in entry.synonyms] == [("retention.ms", 5)]
    if version >= 3:
        assert (entry.config_type, entry.documentation) == (5, "What retention.ms means.")
    assert [(each.name, each.value, each.is_sensitive, each.read_only) for each in secret.configs] == [
        ("password", None, True, True)
    ]
    assert [each.error_code for each in refused] == [
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert refused[0].error_message == "there is no broker '9'; brokers are 0, and '' means all"


async def test_alter_configs_incrementally_and_as_a_whole(broker: ServedWire) -> None:
    topics = broker.cluster.topics
    topics.create("t")
    topics.config["t"] = {"a": "1", "b": "2"}

    async def change(*changes: tuple[str, int, str | None], kind: int = 2, name: str = "t") -> int:
        configs = [
            incremental.AlterableConfig(name=key, config_operation=operation, value=value)
            for key, operation, value in changes
        ]
        resource = incremental.AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
        response = await broker.wire.ask("IncrementalAlterConfigs", 1, resources=[resource])
        code: int = response.responses[0].error_code
        return code

    assert await change(("a", 0, "9"), ("b", 1, None)) == 0
    assert topics.config["t"] == {"a": "9"}
    assert await change(("a", 7, "9")) == ErrorCode.INVALID_REQUEST
    assert await change(("a", 0, None)) == ErrorCode.INVALID_REQUEST
    assert await change(("a", 0, "1"), ("a", 0, "2")) == ErrorCode.INVALID_REQUEST
    assert await change(("a", 0, "1"), name="missing") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert await change(("a", 0, "1"), kind=4, name="0") == ErrorCode.INVALID_CONFIG
    assert topics.config["t"] == {"a": "9"}
    whole = legacy.AlterConfigsResource(
        resource_type=2, resource_name="t", configs=[legacy.AlterableConfig(name="c", value="3")]
    )
    assert (await broker.wire.ask("AlterConfigs", 2, resources=[whole])).responses[0].error_code == 0
    assert topics.config["t"] == {"c": "3"}


# --- groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", decodable_versions("FindCoordinator"))
async def test_find_coordinator(broker: ServedWire, version: int) -> None:
    asked: dict[str, Any] = {"key": "g"} if version < 4 else {"coordinator_keys": ["g", ""]}
    response = await broker.wire.ask("FindCoordinator", version, **asked)
    found = response if version < 4 else response.coordinators[0]
    assert (found.error_code, found.host, found.port) == (0, *broker.listener.address)
    if version >= 4:
        assert response.coordinators[1].error_code == ErrorCode.INVALID_GROUP_ID
    if version >= 1:
        transaction = await broker.wire.ask("FindCoordinator", version, key_type=1, **asked)
        refused = transaction if version < 4 else transaction.coordinators[0]
        assert refused.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert "transactions are not served" in refused.error_message


@pytest.mark.parametrize("version", decodable_versions("JoinGroup"))
async def test_a_group_of_one_lives_and_leaves(broker: ServedWire, version: int) -> None:
    wire = broker.wire
    later = {"rebalance_timeout_ms": 2000} if version else {}
    join = {
        "group_id": "g",
        "session_timeout_ms": 6000,
        "protocol_type": "consumer",
        "protocols": [JoinGroupRequestProtocol(name="range", metadata=b"subscription")],
        **later,
    }
    joined = await wire.ask("JoinGroup", version, **join)
    if version >= 4:
        assert joined.error_code == ErrorCode.MEMBER_ID_REQUIRED
        joined = await wire.ask("JoinGroup", version, member_id=joined.member_id, **join)
    assert joined.error_code == 0
    assert (joined.leader, joined.protocol_name) == (joined.member_id, "range")
    assert [bytes(member.metadata) for member in joined.members] == [b"subscription"]
    seen = broker.cluster.groups.joins[-1]
    assert seen.rebalance_timeout_ms == (2000 if version else 6000)
    assert seen.requires_known_member == (version >= 4)
    assert seen.supports_skipping_assignment == (version >= 9)
    member = {"group_id": "g", "generation_id": joined.generation_id, "member_id": joined.member_id}
    for sync in decodable_versions("SyncGroup"):
        given = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"all")
        synced = await wire.ask("SyncGroup", sync, assignments=[given], **member)
        assert bytes(synced.assignment) == b"all"
    for beat in decodable_versions("Heartbeat"):
        assert (await wire.ask("Heartbeat", beat, **member)).error_code == 0
    left = await wire.ask("LeaveGroup", 2, group_id="g", member_id="stranger")
    assert left.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    members = [MemberIdentity(member_id=joined.member_id), MemberIdentity(member_id="stranger")]
    left = await wire.ask("LeaveGroup", 5, group_id="g", members=members)
    assert left.error_code == 0
    assert [each.error_code for each in left.members] == [0, ErrorCode.UNKNOWN_MEMBER_ID]


async def test_offsets_come_back_with_epoch_and_metadata(broker: ServedWire) -> None:
    for version in decodable_versions("OffsetCommit"):
        committed = OffsetCommitRequestPartition(
            partition_index=1, committed_offset=40 + version, committed_metadata=f"note {version}"
        )
        if version >= 6:
            committed.committed_leader_epoch = 3
        topic = OffsetCommitRequestTopic(name="t", partitions=[committed])
        answer = await broker.wire.ask("OffsetCommit", version, group_id="g", topics=[topic])
        assert answer.topics[0].partitions[0].error_code == 0
    for version in decodable_versions("OffsetFetch"):
        if version < 8:
            topic_asked = offset_fetch.OffsetFetchRequestTopic(name="t", partition_indexes=[1, 2])
            asked = await broker.wire.ask("OffsetFetch", version, group_id="g", topics=[topic_asked])
            topics = asked.topics
        else:
            in_group = offset_fetch.OffsetFetchRequestTopics(name="t", partition_indexes=[1, 2])
            groups = [
                offset_fetch.OffsetFetchRequestGroup(group_id="g", topics=[in_group]),
                offset_fetch.OffsetFetchRequestGroup(group_id="", topics=[in_group]),
            ]
            asked = await broker.wire.ask("OffsetFetch", version, groups=groups)
            topics = asked.groups[0].topics
            assert asked.groups[1].error_code == ErrorCode.INVALID_GROUP_ID
        found, missing = topics[0].partitions
        assert (found.committed_offset, found.metadata) == (49, "note 9")
        assert missing.committed_offset == -1
        if version >= 5:
            assert found.committed_leader_epoch == 3
    everything = await broker.wire.ask("OffsetFetch", 7, group_id="g", topics=None)
    assert [partition.partition_index for partition in everything.topics[0].partitions] == [1]


async def test_offset_fetch_errors_where_each_version_has_room(broker: ServedWire) -> None:
    topic = offset_fetch.OffsetFetchRequestTopic(name="t", partition_indexes=[0])
    oldest = await broker.wire.ask("OffsetFetch", 1, group_id="", topics=[topic])
    assert oldest.topics[0].partitions[0].error_code == ErrorCode.INVALID_GROUP_ID
    newer = await broker.wire.ask("OffsetFetch", 2, group_id="", topics=[topic])
    assert newer.error_code == ErrorCode.INVALID_GROUP_ID


async def test_administration_of_groups(broker: ServedWire) -> None:
    broker.cluster.groups.members["g"] = ("member", 1)
    for version in decodable_versions("DescribeGroups"):
        asked = {"include_authorized_operations": True} if version >= 3 else {}
        answer = await broker.wire.ask("DescribeGroups", version, groups=["g", "none"], **asked)
        known, unknown = answer.groups
        assert (known.group_state, known.members[0].member_id) == ("Stable", "member")
        assert known.members[0].client_host == "127.0.0.1"
        assert unknown.group_state == "Dead"
        if version >= 3:
            assert known.authorized_operations > 0
    listed = await broker.wire.ask("ListGroups", 5, states_filter=["Stable"])
    assert [(group.group_id, group.group_state, group.group_type) for group in listed.groups] == [
        ("g", "Stable", "classic")
    ]
    assert (await broker.wire.ask("ListGroups", 4, states_filter=["Empty"])).groups == []
    broker.cluster.groups.coordinates = False
    elsewhere = await broker.wire.ask("ListGroups", 4)
    assert (elsewhere.error_code, elsewhere.groups) == (ErrorCode.NONE, [])
    deleted = await broker.wire.ask("DeleteGroups", 2, groups_names=["g", "none"])
    assert [each.error_code for each in deleted.results] == [ErrorCode.NON_EMPTY_GROUP, 0]
    topic = OffsetDeleteRequestTopic(name="t", partitions=[OffsetDeleteRequestPartition(partition_index=0)])
    missing = await broker.wire.ask("OffsetDelete", 0, group_id="none", topics=[topic])
    assert missing.error_code == ErrorCode.GROUP_ID_NOT_FOUND


# --- producers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", decodable_versions("InitProducerId"))
async def test_producer_ids_for_the_idempotent_only(broker: ServedWire, version: int) -> None:
    given = await broker.wire.ask("InitProducerId", version, transactional_id=None)
    assert (given.error_code, given.producer_id, given.producer_epoch) == (0, 1, 0)
    refused = await broker.wire.ask("InitProducerId", version, transactional_id="tx")
    assert refused.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


async def test_a_producer_that_finds_no_leader_is_told_to_try_again() -> None:
    away = Refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER, "nobody leads now")
    refused = refuse_init_producer_id(InitProducerIdRequest(), 4, away)
    assert refused.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
