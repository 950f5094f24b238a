"""The OpenAPI documents of both listeners are whole, and every error has its status."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http.listener import DataHttpListener
from penstock.listeners.http.problems import HTTP_STATUS
from penstock.model.errors import RETRIABLE, ErrorCode
from penstock.testing.memory_services import MemoryServices


@pytest.mark.parametrize("listener", [DataHttpListener, AdminHttpListener])
def test_documents_are_complete_and_well_formed(
    services: MemoryServices, listener: type[DataHttpListener | AdminHttpListener]
) -> None:
    from penstock.listeners.http.openapi import openapi_document

    routes = listener("x", "127.0.0.1", 0, services.http).routes
    document = json.loads(json.dumps(openapi_document("t", "d", routes)))
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {(route.method, route.path) for route in routes}
    assert len({operation["operationId"] for operation in operations.values()}) == len(routes)
    for (_, path), operation in operations.items():
        named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert all("description" in each for each in operation["parameters"] if each["in"] == "query")
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "\n" not in schema.get("description", ""), name
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in _references(each)]
    if isinstance(value, list):
        return [found for each in value for found in _references(each)]
    return []


def test_every_error_code_has_its_status() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode) - {ErrorCode.NONE}
    for code, status in HTTP_STATUS.items():
        assert 400 <= status <= 599
        if status in (429, 503):
            assert code in RETRIABLE or code is ErrorCode.UNKNOWN_LEADER_EPOCH
