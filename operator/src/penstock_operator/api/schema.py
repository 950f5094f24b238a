"""OpenAPI schemas of the resources, made from the msgspec structs.

msgspec writes JSON Schema; Kubernetes wants its own "structural" subset of OpenAPI. The differences are few: references
are inlined, optional does not mean nullable, defaults and titles go, every enum says its type, and the rules are attached
where they belong. Nothing here is particular to one resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from penstock_operator.api.rules import Rule

_DROPPED = ("title", "default")
_REFERENCE_PREFIX = "#/"


def openapi_schema(model: type[msgspec.Struct]) -> dict[str, Any]:
    """The structural schema of a struct, without defaults, nulls or references."""
    (root,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE_PREFIX + "{name}")
    schema = _convert(root, components)
    assert isinstance(schema, dict)
    return schema


def _convert(node: Any, components: dict[str, Any]) -> Any:
    """Rewrite one JSON Schema node and everything below it."""
    if "$ref" in node:
        own = {key: value for key, value in node.items() if key != "$ref"}
        return _convert({**components[node["$ref"].removeprefix(_REFERENCE_PREFIX)], **own}, components)
    choices = [choice for choice in node.get("anyOf", []) if choice != {"type": "null"}]
    if choices and "x-kubernetes-int-or-string" not in node:
        assert len(choices) == 1, f"a union that Kubernetes cannot express: {node}"
        own = {key: value for key, value in node.items() if key != "anyOf"}
        return _convert({**choices[0], **own}, components)
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in _DROPPED or (key == "required" and not value):
            continue
        if key == "properties":
            result[key] = {name: _convert(child, components) for name, child in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict) and value):
            result[key] = _convert(value, components)
        elif key == "description":
            result[key] = " ".join(value.split())
        else:
            result[key] = value
    if "enum" in result:
        # msgspec sorts the values; the type is ours to add, because structural schemas must name one.
        result["type"] = "string"
    if "additionalProperties" in result and "x-kubernetes-preserve-unknown-fields" in result:
        del result["additionalProperties"]
    return result


def attach_rules(schema: dict[str, Any], rules: tuple[Rule, ...]) -> None:
    """Put each rule at its path. Raises KeyError when a path is not in the schema."""
    for rule in rules:
        node = schema
        for part in filter(None, rule.path.split(".")):
            node = node["properties"][part.removesuffix("[*]")]
            if part.endswith("[*]"):
                node = node["items"]
        node.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})
