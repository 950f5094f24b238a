"""What the three resources have in common: metadata, conditions, and the scalar types with their patterns.

The structs are the only description of the fields. The CRDs are generated from them (`crd`), manifests and plans
read them, and defaults are their Python defaults, which are never written back into a resource.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from penstock_operator.api.units import DURATION_PATTERN, QUANTITY_PATTERN


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a resource: camelCase on the wire, snake_case in Python, immutable."""


Duration = Annotated[str, Meta(pattern=DURATION_PATTERN, max_length=32)]
Quantity = Annotated[
    int | str, Meta(extra_json_schema={"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN})
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(min_length=1, max_length=253)]
# Values of `config` maps are numbers, truth values or text, as Kafka's configuration files have them.
ConfigMapping = Annotated[
    dict[str, Any],
    Meta(extra_json_schema={"additionalProperties": {"x-kubernetes-preserve-unknown-fields": True}}),
]
# Parts of Kubernetes' own types that are passed on untouched; the API server checks them where they end up.
Passthrough = Annotated[
    dict[str, Any], Meta(extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})
]

ReclaimPolicy = Annotated[
    Literal["Retain", "Delete"],
    Meta(
        description="What happens to the thing in the broker when this resource is deleted. Default: Retain."
    ),
]


class Metadata(Model, frozen=True, kw_only=True):
    """The part of Kubernetes' object metadata that Penstock reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    finalizers: list[str] = msgspec.field(default_factory=list)


class ClusterReference(Model, frozen=True, kw_only=True):
    """The MessageCluster, in the same namespace."""

    name: Annotated[Text, Meta(description="Name of the MessageCluster. Cannot be changed.")]


class Condition(Model, frozen=True, kw_only=True):
    """One statement about a resource, as in Kubernetes' own metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class Position(Model, frozen=True, kw_only=True):
    """A place in the topics; exactly one of the fields says which."""

    at: Annotated[
        Literal["earliest", "latest"] | None, Meta(description="The first or the next message.")
    ] = None
    timestamp: Annotated[
        str | None,
        Meta(
            description="The first message at or after this time (RFC 3339).",
            extra_json_schema={"format": "date-time"},
        ),
    ] = None
    offset: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="This offset, in every partition.")
    ] = None
