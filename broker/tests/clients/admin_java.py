"""Kafka's command line tools: kafka-topics, kafka-configs, kafka-consumer-groups, kafka-delete-records."""

from __future__ import annotations

import json
import re
import tempfile
from typing import TYPE_CHECKING

from client_driver import ALL_CALLS, AdminError, ClientError, GroupView
from client_process import run
from penstock.testing.apache_kafka import KAFKA_VERSION, java_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"

_TOPIC_LINE = re.compile(r"Topic: (\S+)\s+TopicId: \S+\s+PartitionCount: (\d+)")
_CONFIG_LINE = re.compile(r"^\s+([a-z.]+)=(.*?) sensitive=", re.MULTILINE)


class JavaAdmin:
    """Apache Kafka's tools, called by main class."""

    name = "Apache Kafka tools"
    version = KAFKA_VERSION
    calls = ALL_CALLS

    def create_topic(
        self, bootstrap: str, topic: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> None:
        settings = [
            part for name, value in (config or {}).items() for part in ("--config", f"{name}={value}")
        ]
        _tool(TOPICS, bootstrap, "--create", "--topic", topic, "--partitions", str(partitions), *settings)

    def topics(self, bootstrap: str) -> dict[str, int]:
        return {
            name: int(count) for name, count in _TOPIC_LINE.findall(_tool(TOPICS, bootstrap, "--describe"))
        }

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        _tool(TOPICS, bootstrap, "--delete", "--topic", topic)

    def add_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        _tool(TOPICS, bootstrap, "--alter", "--topic", topic, "--partitions", str(total))

    def topic_config(self, bootstrap: str, topic: str) -> dict[str, str]:
        told = _tool(
            CONFIGS, bootstrap, "--describe", "--entity-type", "topics", "--entity-name", topic, "--all"
        )
        return dict(_CONFIG_LINE.findall(told))

    def set_topic_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        _alter(bootstrap, topic, "--add-config", f"{name}={value}")

    def reset_topic_config(self, bootstrap: str, topic: str, name: str) -> None:
        _alter(bootstrap, topic, "--delete-config", name)

    def groups(self, bootstrap: str) -> set[str]:
        return set(_tool(GROUPS, bootstrap, "--list").split())

    def describe_group(self, bootstrap: str, group: str) -> GroupView:
        told = _tool(GROUPS, bootstrap, "--describe", "--group", group, "--state")
        header, row = _table(told)
        # The column of the coordinator holds "host:port (id)", so columns are counted from the end.
        return GroupView(row[-2].lower() if header[-2] == "STATE" else "unknown", int(row[-1]))

    def committed(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        told = _tool(GROUPS, bootstrap, "--describe", "--group", group, "--offsets")
        rows = [line.split() for line in told.splitlines()]
        return {
            int(row[2]): int(row[3])
            for row in rows
            if len(row) > 3 and row[:2] == [group, topic] and row[3] != "-"
        }

    def reset_offset(self, bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None:
        where = ["--topic", f"{topic}:{partition}", "--to-offset", str(offset)]
        _tool(GROUPS, bootstrap, "--reset-offsets", "--group", group, *where, "--execute")

    def delete_offsets(self, bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> None:
        where = f"{topic}:{','.join(map(str, partitions))}"
        told = _tool(GROUPS, bootstrap, "--delete-offsets", "--group", group, "--topic", where)
        if "Successful" not in told:
            raise AdminError(told)

    def delete_group(self, bootstrap: str, group: str) -> None:
        told = _tool(GROUPS, bootstrap, "--delete", "--group", group)
        if "was successful" not in told:
            raise AdminError(told)

    def delete_records(self, bootstrap: str, topic: str, partition: int, before: int) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            where = {"topic": topic, "partition": partition, "offset": before}
            json.dump({"partitions": [where], "version": 1}, file)
            file.flush()
            told = _tool(DELETE_RECORDS, bootstrap, "--offset-json-file", file.name)
        if f"low_watermark: {before}" not in told:
            raise AdminError(told)


def _tool(main_class: str, bootstrap: str, *arguments: str) -> str:
    try:
        told = run(java_command(main_class, "--bootstrap-server", bootstrap, *arguments))
    except ClientError as error:
        raise AdminError(str(error)) from error
    if told.lstrip().startswith("Error:"):
        raise AdminError(told)  # kafka-consumer-groups ends with 0 all the same.
    return told


def _alter(bootstrap: str, topic: str, *change: str) -> None:
    _tool(CONFIGS, bootstrap, "--alter", "--entity-type", "topics", "--entity-name", topic, *change)


def _table(told: str) -> tuple[list[str], list[str]]:
    """Header and first row of a table; raises AdminError when there is none."""
    lines = [line.split() for line in told.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if line[0] == "GROUP" and index + 1 < len(lines):
            return line, lines[index + 1]
    raise AdminError(told)
