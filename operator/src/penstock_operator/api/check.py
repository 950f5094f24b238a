"""Validation without an API server: the same schema, the same rules, the same sentences.

`check_resource` walks a resource along the generated OpenAPI schema, in the words of Kubernetes' own messages, and then
applies the rules. What it accepts, the API server accepts; tests hold one bad file per rule against both.
"""

from __future__ import annotations

import datetime
import re
from functools import cache
from typing import Any, Final

from penstock_operator.api.crd import KINDS as CRD_KINDS
from penstock_operator.api.crd import Kind, resource_schema
from penstock_operator.api.names import API_VERSION, KINDS
from penstock_operator.api.rules import broken_rules

PROBLEMS_MAX: Final = 32  # sentences for one resource; more help nobody
_TYPES: Final[dict[str, Any]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def check_resource(resource: Any, old: dict[str, Any] | None = None) -> list[str]:
    """Sentences that say what is wrong with a resource; none when the API server would take it.

    `old` is the resource that it replaces, for rules about updates.
    """
    if not isinstance(resource, dict):
        return ["a resource is a mapping with apiVersion, kind, metadata and spec"]
    kind_name = resource.get("kind")
    kind = next((kind for kind in CRD_KINDS if kind.kind == kind_name), None)
    if kind is None:
        return [f"kind {kind_name!r} is not one of Penstock's: write one of {', '.join(KINDS)}"]
    if resource.get("apiVersion") != API_VERSION:
        return [f"apiVersion {resource.get('apiVersion')!r} is not known: write {API_VERSION}"]
    problems = _check_metadata(resource.get("metadata"))
    body = {key: value for key, value in resource.items() if key != "metadata"}
    problems += list(_check_value(body, _schema(kind), ""))
    if problems:
        return problems[:PROBLEMS_MAX]
    return [f"{rule.path or kind.kind}: {rule.message}" for rule in broken_rules(kind.rules, resource, old)]


@cache
def _schema(kind: Kind) -> dict[str, Any]:
    return resource_schema(kind)


def _check_metadata(metadata: Any) -> list[str]:
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        return ["metadata.name: Required value: a name is required"]
    if len(name) > 253 or not _NAME.fullmatch(name):
        return [f"metadata.name: Invalid value: {name!r}: write lower case letters, digits, '-' and '.'"]
    return []


def _check_value(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """Problems of one value and everything below it."""
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            return [f"{path}: Invalid value: {_shown(value)}: must be a number or a string"]
        return _check_string(value, schema, path) if isinstance(value, str) else []
    expected = schema.get("type")
    if expected is None:
        return (
            []
            if value is None or isinstance(value, str | int | float | bool)
            else [f"{path}: Invalid value: {_shown(value)}: write a number, a string, true or false"]
        )
    if (
        value is None
        or not isinstance(value, _TYPES[expected])
        or (isinstance(value, bool) and expected != "boolean")
    ):
        return [f"{path or 'resource'}: Invalid value: {_shown(value)}: must be of type {expected}"]
    if expected == "object":
        return _check_object(value, schema, path)
    if expected == "array":
        return _check_array(value, schema, path)
    if expected == "string":
        return _check_string(value, schema, path)
    return _check_number(value, schema, path)


def _check_object(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    problems = []
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    prefix = f"{path}." if path else ""
    for name in schema.get("required", []):
        if name not in value:
            problems.append(f"{prefix}{name}: Required value")
    if len(value) > schema.get("maxProperties", len(value)):
        problems.append(f"{path}: Too many: {len(value)}: must have at most {schema['maxProperties']} items")
    for name, child in value.items():
        if name in properties:
            problems += _check_value(child, properties[name], f"{prefix}{name}")
        elif extra is not None:
            problems += _check_value(child, extra, f"{prefix}{name}")
        else:
            problems.append(f'unknown field "{prefix}{name}"')
    return problems


def _check_array(value: list[Any], schema: dict[str, Any], path: str) -> list[str]:
    if len(value) < schema.get("minItems", 0):
        return [f"{path}: Invalid value: {len(value)}: should have at least {schema['minItems']} items"]
    if len(value) > schema.get("maxItems", len(value)):
        return [f"{path}: Too many: {len(value)}: must have at most {schema['maxItems']} items"]
    problems = []
    for index, item in enumerate(value):
        problems += _check_value(item, schema["items"], f"{path}[{index}]")
    if problems:
        return problems
    keys = schema.get("x-kubernetes-list-map-keys")
    seen: list[Any] = []
    for index, item in enumerate(value):
        identity = [item.get(key) for key in keys] if keys else item
        if schema.get("x-kubernetes-list-type") in ("map", "set") and identity in seen:
            problems.append(f"{path}[{index}]: Duplicate value: {_shown(item)}")
        seen.append(identity)
    return problems


def _check_string(value: str, schema: dict[str, Any], path: str) -> list[str]:
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        return [
            f"{path}: Unsupported value: {_shown(value)}: supported values: {', '.join(map(_shown, allowed))}"
        ]
    if len(value) > schema.get("maxLength", len(value)):
        return [f"{path}: Too long: may not be more than {schema['maxLength']} bytes"]
    if len(value) < schema.get("minLength", 0):
        return [
            f"{path}: Invalid value: {_shown(value)}: should be at least {schema['minLength']} chars long"
        ]
    pattern = schema.get("pattern")
    # `$` also matches before a last newline in Python and not in Go, so the end is checked with \Z.
    if pattern is not None and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        return [f"{path}: Invalid value: {_shown(value)}: should match '{pattern}'"]
    if schema.get("format") == "date-time" and not _is_date_time(value):
        return [
            f"{path}: Invalid value: {_shown(value)}: must be of type date-time: write it as 2026-11-21T08:30:00Z"
        ]
    return []


def _check_number(value: float, schema: dict[str, Any], path: str) -> list[str]:
    if value < schema.get("minimum", value):
        return [f"{path}: Invalid value: {value}: should be greater than or equal to {schema['minimum']}"]
    if value > schema.get("maximum", value):
        return [f"{path}: Invalid value: {value}: should be less than or equal to {schema['maximum']}"]
    return []


def _is_date_time(value: str) -> bool:
    if not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})\Z", value):
        return False
    try:
        datetime.datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value in a message: short, strings in double quotes as Kubernetes prints them."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
