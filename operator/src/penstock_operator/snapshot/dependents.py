"""Topics and groups as the broker reports them."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

Seen = TypeVar("Seen")


class PartitionSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One partition; `leader` is the broker's name, whose middle number is the shard."""

    partition: int
    leader: str = ""


class TopicSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Answer of `GET /v1/topics/{name}`; `config` holds the overrides only."""

    name: str
    topic_id: str
    partitions: int
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    partition_details: list[PartitionSeen] = msgspec.field(default_factory=list)

    def shards(self) -> list[int]:
        """The shards that hold partitions of the topic, as far as leaders are known."""
        numbers = {
            detail.leader.rsplit("-", 2)[-2]
            for detail in self.partition_details
            if detail.leader.count("-") > 1
        }
        return sorted(int(number) for number in numbers if number.isdecimal())


class QueueSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the broker says of a queue group beside the rest: its settings, as far as it shows them, and its messages."""

    in_flight: int = 0
    dead_letters: int = 0
    oldest_message_age_ms: int | None = None
    window_full: bool = False
    dead_letter_topic: str = ""
    lease_ms: int = 0
    max_in_flight: int = 0
    max_deliveries: int = 0


class GroupSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Answer of `GET /v1/groups/{name}`."""

    name: str
    mode: str = "stream"
    state: str = "Empty"
    topics: list[str] = msgspec.field(default_factory=list)
    members: list[dict[str, Any]] = msgspec.field(default_factory=list)
    lag: int = 0
    declared: bool = False
    queue: QueueSeen | None = None


def parse_topic(answer: Any) -> TopicSeen:
    """Raises ValueError with a sentence when the answer is something else."""
    return _parse(answer, TopicSeen, "topic")


def parse_group(answer: Any) -> GroupSeen:
    """Raises ValueError with a sentence when the answer is something else."""
    return _parse(answer, GroupSeen, "group")


def _parse(answer: Any, model: type[Seen], what: str) -> Seen:
    try:
        return msgspec.convert(answer, model)
    except msgspec.ValidationError as error:
        raise ValueError(f"the broker's answer about the {what} is not understood: {error}") from error
