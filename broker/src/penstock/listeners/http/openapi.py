"""The OpenAPI 3.1 document of a route table.

OpenAPI 3.1 schemas are JSON Schema 2020-12, which is what msgspec writes for its structs; so the document is the
route table in other words, and cannot say anything that the server does not enforce. Built once, at start.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock import __version__
from penstock.listeners.http.problems import PROBLEM_MEDIA_TYPE, Problem
from penstock.listeners.http.routes import (
    JSON_MEDIA_TYPE,
    Call,
    NoBody,
    NoQuery,
    RawBody,
    Reply,
    Route,
    Routes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

OPENAPI_VERSION: Final = "3.1.0"
OPENAPI_PATH: Final = "/v1/openapi.json"

_PATH_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_LOCAL: Final = "Answered by the broker that is asked, from what it knows, whether or not it leads."
_REFERENCES: Final = "#/components/schemas/{name}"


def with_openapi(title: str, description: str, routes: Routes) -> Routes:
    """The routes and one more, that answers with the document of them all."""
    document = b""

    async def answer(call: Call[NoQuery, NoBody]) -> Reply:
        return Reply(document)

    own: Route[NoQuery, NoBody] = Route(
        method="GET",
        path=OPENAPI_PATH,
        name="getOpenApi",
        summary="This API's OpenAPI 3.1 document.",
        handler=answer,
        replies={200: dict[str, Any]},
        query=NoQuery,
        body=NoBody,
        local=True,
    )
    complete = [*routes, own]
    document = msgspec.json.encode(openapi_document(title, description, complete))
    return complete


def openapi_document(title: str, description: str, routes: Routes) -> dict[str, Any]:
    """The document as plain dicts and lists."""
    kinds = list(_kinds(routes))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCES)
    for component in components.values():
        # A docstring's line breaks are those of the source.
        component["description"] = " ".join(component.get("description", "").split())
    schema_of = dict(zip(map(_key, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operations = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", route.path), {})
        operations[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": __version__, "description": description},
        "paths": paths,
        "components": {"schemas": components},
    }


def _kinds(routes: Routes) -> Iterable[Any]:
    yield Problem
    seen = {_key(Problem)}
    for route in routes:
        for kind in (*route.accepts.values(), *route.replies.values(), route.body):
            if kind is None or kind is RawBody or kind is NoBody or _key(kind) in seen:
                continue
            seen.add(_key(kind))
            yield kind


def _key(kind: Any) -> str:
    """Types such as dict[str, int] are equal but not identical, and not all are hashable; their names will do."""
    return repr(kind)


def _operation(route: Route[Any, Any], schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.query)],
        "responses": {
            str(status): _response(status, kind, route.reply_media_type, schema_of)
            for status, kind in route.replies.items()
        },
    }
    if route.local:
        operation["description"] = _LOCAL
    operation["responses"]["default"] = {
        "description": "What is wrong, as a problem document (RFC 9457).",
        "content": {PROBLEM_MEDIA_TYPE: {"schema": schema_of[_key(Problem)]}},
    }
    if route.reads_body:
        accepts = route.accepts or {JSON_MEDIA_TYPE: route.body}
        operation["requestBody"] = {
            "required": True,
            "content": {media: {"schema": schema_of[_key(kind)]} for media, kind in accepts.items()},
        }
    return operation


def _response(status: int, kind: Any, media_type: str, schema_of: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind is not None:
        response["content"] = {media_type: {"schema": schema_of[_key(kind)]}}
    return response


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(path)
    ]


def _query_parameters(query: type[Any]) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(query, ref_template="{name}")["$defs"][query.__name__]
    required = schema.get("required", [])
    parameters = []
    for name, described in schema["properties"].items():
        parameter: dict[str, Any] = {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": {key: value for key, value in described.items() if key != "description"},
        }
        if "description" in described:
            parameter["description"] = described["description"]
        parameters.append(parameter)
    return parameters
