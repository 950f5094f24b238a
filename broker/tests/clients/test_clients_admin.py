"""Administration through every client that has it: topics, configurations, groups, offsets, deleted records."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer

from client_driver import AdminError, eventually
from client_matrix import every_admin, scenario
from penstock.testing.wire_probe import end_offsets, start_offsets

if TYPE_CHECKING:
    from client_driver import Admin
    from client_peer import MakeTopic

PARTITIONS = 2
MESSAGES = 20
METADATA_TIMEOUT_S = 20.0


@scenario("admin: create, list, enlarge and delete topics")
@every_admin("create_topic", "topics", "add_partitions", "delete_topic")
def test_topics(admin: Admin, bootstrap: str) -> None:
    topic = f"admin-{uuid.uuid4()}"
    admin.create_topic(bootstrap, topic, 2)
    eventually(
        lambda: admin.topics(bootstrap).get(topic) == 2, METADATA_TIMEOUT_S, "the topic in the listing"
    )
    with pytest.raises(AdminError, match=r"(?i)exists"):
        admin.create_topic(bootstrap, topic, 2)
    admin.add_partitions(bootstrap, topic, 5)
    eventually(lambda: admin.topics(bootstrap)[topic] == 5, METADATA_TIMEOUT_S, "five partitions")
    with pytest.raises(AdminError, match=r"(?i)partition"):
        admin.add_partitions(bootstrap, topic, 3)
    admin.delete_topic(bootstrap, topic)
    eventually(lambda: topic not in admin.topics(bootstrap), METADATA_TIMEOUT_S, "the topic gone")
    with pytest.raises(AdminError, match=r"(?i)unknown|does not exist|does not host"):
        admin.delete_topic(bootstrap, topic)


@scenario("admin: describe and alter topic configuration")
@every_admin("create_topic", "topic_config", "set_topic_config")
def test_configs(admin: Admin, bootstrap: str) -> None:
    topic = f"admin-{uuid.uuid4()}"
    admin.create_topic(bootstrap, topic, 1, {"retention.ms": "3600000"})

    def shows(name: str, value: str) -> None:
        eventually(
            lambda: admin.topic_config(bootstrap, topic).get(name) == value,
            METADATA_TIMEOUT_S,
            lambda: f"{name}={value} in {admin.topic_config(bootstrap, topic)}",
        )

    shows("retention.ms", "3600000")
    shows("cleanup.policy", "delete")
    admin.set_topic_config(bootstrap, topic, "retention.ms", "7200000")
    shows("retention.ms", "7200000")
    if "reset_topic_config" in admin.calls:
        admin.reset_topic_config(bootstrap, topic, "retention.ms")
        shows("retention.ms", "604800000")
    with pytest.raises(AdminError, match=r"(?i)no\.such\.config|invalid|unknown"):
        admin.set_topic_config(bootstrap, topic, "no.such.config", "1")
    with pytest.raises(AdminError, match=r"(?i)invalid|number|retention"):
        admin.set_topic_config(bootstrap, topic, "retention.ms", "a week")


@scenario("admin: list and describe groups, reset offsets")
@every_admin("groups", "describe_group", "committed", "reset_offset")
def test_groups(admin: Admin, bootstrap: str, make_topic: MakeTopic, group: str) -> None:
    topic = make_topic(PARTITIONS)
    _fill(bootstrap, topic)
    _consume(bootstrap, topic, group, admin)
    assert group in admin.groups(bootstrap)
    view = admin.describe_group(bootstrap, group)
    assert (view.state, view.members) == ("empty", 0)
    assert admin.committed(bootstrap, group, topic) == {0: MESSAGES, 1: MESSAGES}
    admin.reset_offset(bootstrap, group, topic, 1, 7)
    assert admin.committed(bootstrap, group, topic) == {0: MESSAGES, 1: 7}


@scenario("admin: delete offsets of a group")
@every_admin("committed", "delete_offsets")
def test_delete_offsets(admin: Admin, bootstrap: str, make_topic: MakeTopic, group: str) -> None:
    topic = make_topic(PARTITIONS)
    _fill(bootstrap, topic)
    _consume(bootstrap, topic, group)
    admin.delete_offsets(bootstrap, group, topic, [0])
    assert admin.committed(bootstrap, group, topic) == {1: MESSAGES}


@scenario("admin: delete groups")
@every_admin("groups", "delete_group")
def test_delete_group(admin: Admin, bootstrap: str, make_topic: MakeTopic, group: str) -> None:
    topic = make_topic(PARTITIONS)
    _fill(bootstrap, topic)
    consumer = _join(bootstrap, topic, group)
    try:
        with pytest.raises(AdminError, match=r"(?i)not.?empty|nonempty"):
            admin.delete_group(bootstrap, group)
    finally:
        consumer.close()
    admin.delete_group(bootstrap, group)
    assert group not in admin.groups(bootstrap)


@scenario("admin: delete records")
@every_admin("delete_records")
def test_delete_records(admin: Admin, bootstrap: str, make_topic: MakeTopic) -> None:
    topic = make_topic(PARTITIONS)
    _fill(bootstrap, topic)
    admin.delete_records(bootstrap, topic, 1, 7)
    assert start_offsets(bootstrap, topic, PARTITIONS) == {0: 0, 1: 7}
    assert end_offsets(bootstrap, topic, PARTITIONS) == {0: MESSAGES, 1: MESSAGES}
    with pytest.raises(AdminError, match=r"(?i)offset|range"):
        admin.delete_records(bootstrap, topic, 1, MESSAGES + 1)


def _fill(bootstrap: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in range(MESSAGES * PARTITIONS):
        producer.produce(topic, str(number), partition=number % PARTITIONS)
    assert producer.flush(20) == 0


def _join(bootstrap: str, topic: str, group: str) -> Consumer:
    """A consumer that read everything, still a member."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "heartbeat.interval.ms": 500,
        }
    )
    consumer.subscribe([topic])
    read = 0

    def all_read() -> bool:
        nonlocal read
        messages = consumer.consume(1000, 0.1)
        read += len([message for message in messages if message.error() is None])
        return read == MESSAGES * PARTITIONS

    eventually(all_read, 30, lambda: f"{MESSAGES * PARTITIONS} messages, {read} were read")
    return consumer


def _consume(bootstrap: str, topic: str, group: str, admin: Admin | None = None) -> None:
    """Reads and commits everything and leaves; looks at the group through `admin` while it is a member."""
    consumer = _join(bootstrap, topic, group)
    try:
        consumer.commit(asynchronous=False)
        if admin is not None:
            view = admin.describe_group(bootstrap, group)
            assert (view.state, view.members) == ("stable", 1)
    finally:
        consumer.close()
