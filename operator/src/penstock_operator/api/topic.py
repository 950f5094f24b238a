"""`Topic`: a topic of a MessageCluster, and what becomes of it when the resource is deleted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from penstock_operator.api.common import (
    ClusterReference,
    Condition,
    ConfigMapping,
    Metadata,
    Model,
    ReclaimPolicy,
)


class TopicSpec(Model, frozen=True, kw_only=True):
    """What the topic should be."""

    cluster_ref: ClusterReference
    topic_name: Annotated[
        Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]+$", min_length=1, max_length=249)] | None,
        Meta(description="Name on the wire. Cannot be changed. Default: metadata.name."),
    ] = None
    partitions: Annotated[int, Meta(ge=1, le=10_000, description="Up only. Default: 1.")] = 1
    config: Annotated[ConfigMapping, Meta(description="Kafka's topic configuration.")] = msgspec.field(
        default_factory=dict
    )
    type: Annotated[Literal["normal", "fifo", "delay"], Meta(description="Default: normal.")] = "normal"
    reclaim_policy: ReclaimPolicy = "Retain"


class TopicStatus(Model, frozen=True, kw_only=True):
    """What the topic is, as last observed."""

    observed_generation: int = 0
    conditions: Annotated[
        list[Condition],
        Meta(extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = msgspec.field(default_factory=list)
    topic_name: str | None = None
    topic_id: str | None = None
    partitions: int | None = None
    shards: list[int] = msgspec.field(default_factory=list)
    config: Annotated[
        ConfigMapping,
        Meta(
            description="The settings that this resource has made; what leaves the spec goes back to default."
        ),
    ] = msgspec.field(default_factory=dict)


class Topic(Model, frozen=True, kw_only=True):
    """A topic."""

    metadata: Metadata
    spec: TopicSpec
    status: TopicStatus = TopicStatus()

    @property
    def wire_name(self) -> str:
        """The topic's name for clients."""
        return self.spec.topic_name or self.metadata.name


def config_text(config: dict[str, Any]) -> dict[str, str]:
    """Configuration values as Kafka writes them: text, with `true` and `false` in lower case; null is no value."""
    return {name: value_text(value) for name, value in config.items() if value is not None}


def value_text(value: Any) -> str:
    """One configuration value as Kafka writes it; a whole number never gets a fraction."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
