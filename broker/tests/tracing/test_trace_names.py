"""Our names are those of the semantic conventions that the pinned library knows."""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    k8s_attributes,
    messaging_attributes,
    service_attributes,
)
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind

from penstock.tracing import attributes
from penstock.tracing.span import Kind


def test_names_are_the_conventions_own() -> None:
    known = {
        name: value
        for module in (error_attributes, k8s_attributes, messaging_attributes, service_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    ours = {
        name: value
        for name, value in vars(attributes).items()
        if name.startswith(("MESSAGING_", "ERROR_", "SERVICE_", "K8S_"))
    }
    assert ours.items() <= known.items()
    assert len(ours) > 15


def test_operation_types_are_the_conventions_own() -> None:
    known = {value.value for value in messaging_attributes.MessagingOperationTypeValues}
    assert set(attributes.OPERATION_TYPES.values()) <= known


def test_the_schema_is_one_that_the_library_knows() -> None:
    assert attributes.SCHEMA_URL in {schema.value for schema in Schemas}


def test_kinds_are_the_apis_own() -> None:
    assert {kind.name: kind.value for kind in Kind}.items() <= {
        kind.name: kind.value for kind in SpanKind
    }.items()
