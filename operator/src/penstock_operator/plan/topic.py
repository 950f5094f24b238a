"""The plan and the status of one Topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock_operator.api.topic import config_text
from penstock_operator.plan.words import counted

if TYPE_CHECKING:
    from penstock_operator.api.topic import Topic
    from penstock_operator.snapshot.dependents import TopicSeen


class CreateTopic(msgspec.Struct, frozen=True, kw_only=True):
    """Make the topic."""

    why: str
    partitions: int
    config: dict[str, str]


class AlterTopic(msgspec.Struct, frozen=True, kw_only=True):
    """Bring an existing topic to the spec; a configuration value of None goes back to its default."""

    why: str
    partitions: int | None
    config: dict[str, str | None]


def plan_topic(topic: Topic, seen: TopicSeen | None) -> CreateTopic | AlterTopic | None:
    """The one thing to do, or None. Partitions only ever grow.

    Settings that this resource never made (a client did) stay; settings that it made and no longer names go back to
    their default. What it made is in its status.
    """
    wanted = config_text(topic.spec.config)
    if seen is None:
        why = f"topic {topic.wire_name} does not exist"
        return CreateTopic(why=why, partitions=topic.spec.partitions, config=wanted)
    present = config_text(seen.config)
    config: dict[str, str | None] = {
        name: value for name, value in sorted(wanted.items()) if present.get(name) != value
    }
    config |= {name: None for name in sorted(topic.status.config) if name not in wanted and name in present}
    grows = seen.partitions < topic.spec.partitions
    if not config and not grows:
        return None
    reasons = [f"partitions grow from {seen.partitions} to {topic.spec.partitions}"] if grows else []
    reasons += [
        f"{name} goes back to its default"
        if value is None
        else f"{name} is {present.get(name, 'unset')} instead of {value}"
        for name, value in config.items()
    ]
    why = f"topic {topic.wire_name} differs from its spec: {', '.join(reasons)}"
    return AlterTopic(why=why, partitions=topic.spec.partitions if grows else None, config=config)


def topic_facts(topic: Topic, seen: TopicSeen) -> tuple[dict[str, Any], str]:
    """What status says about a topic that is as its spec says, and the sentence of its Ready condition."""
    facts = {
        "topicName": topic.wire_name,
        "topicId": seen.topic_id,
        "partitions": seen.partitions,
        "shards": seen.shards(),
        "config": topic.spec.config,
    }
    sentence = f"topic {topic.wire_name} exists with {counted(seen.partitions, 'partition')}"
    if seen.partitions > topic.spec.partitions:
        sentence += f", more than the spec's {topic.spec.partitions}: partitions are never removed"
    return facts, sentence
