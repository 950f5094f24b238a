"""`ConsumerGroup`: a consumer group with its topics, start position and, on demand, a reset."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from penstock_operator.api.common import (
    ClusterReference,
    Condition,
    Duration,
    Metadata,
    Model,
    Position,
    ReclaimPolicy,
)


class Reset(Position, frozen=True, kw_only=True):
    """Where to move the group to, once for each new token."""

    token: Annotated[
        str, Meta(min_length=1, max_length=63, description="A new value carries the reset out once more.")
    ]
    force: Annotated[bool, Meta(description="Also while members are active. Default: false.")] = False


DEAD_LETTER_SUFFIX = ".dlq"
RETRY_INITIAL_DEFAULT = "10s"
RETRY_MAX_DEFAULT = "2h"


class Backoff(Model, frozen=True, kw_only=True):
    """Waiting times before a failed message is delivered again."""

    initial: Annotated[Duration, Meta(description="After the first delivery; at most max. Default: 10s.")] = (
        RETRY_INITIAL_DEFAULT
    )
    factor: Annotated[
        float, Meta(ge=1, le=100, description="How many times longer after each further one. Default: 2.")
    ] = 2
    max: Annotated[Duration, Meta(description="The longest, at most 24h. Default: 2h.")] = RETRY_MAX_DEFAULT
    jitter: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Up to this part longer, so that what failed together does not come back together. Default: 0.1.",
        ),
    ] = 0.1


class Retry(Model, frozen=True, kw_only=True):
    """Mode queue: when failed messages are delivered again."""

    max_deliveries: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="After so many deliveries a message that fails again goes to the dead letters. Default: 16.",
        ),
    ] = 16
    backoff: Backoff = Backoff()


class DeadLetter(Model, frozen=True, kw_only=True):
    """Mode queue: where messages go that failed for good."""

    topic_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=249,
            description="Name on the wire; the topic is made when it is needed. Default: the group's name and .dlq.",
        ),
    ]


class DeliveryLease(Model, frozen=True, kw_only=True):
    """Mode queue: how long, and how many, messages are held."""

    duration: Annotated[
        Duration, Meta(description="How long a member holds a message that it does not extend. Default: 30s.")
    ] = "30s"
    max_in_flight: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Messages of the group that are held, wait to be delivered again or are on their way to the dead letters; no other is delivered beyond it."
            " Default: 10000.",
        ),
    ] = 10_000


class Filter(Model, frozen=True, kw_only=True):
    """Which messages the group sees. Not available in this release."""

    tags: Annotated[str, Meta(max_length=1024)] | None = None
    sql: Annotated[str, Meta(max_length=4096)] | None = None


class ConsumerGroupSpec(Model, frozen=True, kw_only=True):
    """What the group should be."""

    cluster_ref: ClusterReference
    group_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None,
        Meta(description="Name on the wire. Cannot be changed. Default: metadata.name."),
    ] = None
    topics: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=249)]],
        Meta(
            min_length=1,
            max_length=256,
            description="Names on the wire.",
            extra_json_schema={"x-kubernetes-list-type": "set"},
        ),
    ]
    mode: Annotated[
        Literal["stream", "queue", "broadcast"], Meta(description="Cannot be changed. Default: stream.")
    ] = "stream"
    start: Annotated[
        Position, Meta(description="Where a group without offsets begins. Default: {at: latest}.")
    ] = Position(at="latest")
    reset: Reset | None = None
    reclaim_policy: ReclaimPolicy = "Retain"
    retry: Retry | None = None
    dead_letter: DeadLetter | None = None
    lease: DeliveryLease | None = None
    ordering: Annotated[Literal["none", "key"], Meta(description="Default: none.")] = "none"
    filter: Filter | None = None


class ResetStatus(Model, frozen=True, kw_only=True):
    """The last reset that was carried out."""

    token: str
    message: str


class ConsumerGroupStatus(Model, frozen=True, kw_only=True):
    """What the group is, as last observed."""

    observed_generation: int = 0
    conditions: Annotated[
        list[Condition],
        Meta(extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = msgspec.field(default_factory=list)
    group_name: str | None = None
    state: str | None = None
    members: int | None = None
    lag: int | None = None
    in_flight: int | None = None
    dead_letters: int | None = None
    oldest_message_age: str | None = None
    reset: ResetStatus | None = None


class ConsumerGroup(Model, frozen=True, kw_only=True):
    """A consumer group."""

    metadata: Metadata
    spec: ConsumerGroupSpec
    status: ConsumerGroupStatus = ConsumerGroupStatus()

    @property
    def wire_name(self) -> str:
        """The group's name for clients."""
        return self.spec.group_name or self.metadata.name
