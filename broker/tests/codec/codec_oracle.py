"""kafka-python as oracle of the codec: its schemas say what a version holds, its encoder what the bytes are.

Values are plain dictionaries by schema name; `to_ours` and `to_theirs` build both libraries' messages from the same ones. Nothing here
reads our own generated code to learn what it should do.
"""

import importlib
import pkgutil
import re
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from penstock.codec.kafka.apis import APIS, Api

# kafka-python shortens two names.
_OUR_NAMES = {
    ("MetadataResponse", "authorized_operations"): "cluster_authorized_operations",
    ("MetadataResponse.topics", "authorized_operations"): "topic_authorized_operations",
    ("DescribeClusterResponse", "authorized_operations"): "cluster_authorized_operations",
}

# Its `bitfield` is an int32 that it shows as the set of its bits.
_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "bitfield": 32}


def _subclasses(root: type) -> Iterator[type]:
    children: list[type] = type.__subclasses__(root)
    for child in children:
        yield child
        yield from _subclasses(child)


def _load() -> dict[str, Any]:
    with warnings.catch_warnings():
        # It reads its schemas with a function that Python calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        root = importlib.import_module("kafka.protocol.api_message").ApiMessage
        for package in ("admin", "consumer", "metadata", "producer"):
            parent = importlib.import_module(f"kafka.protocol.{package}")
            for module in pkgutil.iter_modules(parent.__path__, f"{parent.__name__}."):
                importlib.import_module(module.name)
    return {found.__name__: found for found in _subclasses(root)}


THEIRS = _load()

CASES = [
    (api.name, role, version)
    for api in APIS.values()
    for role in ("Request", "Response")
    for version in sorted(api.decode_request)
]


def functions(api: Api, role: str, version: int) -> tuple[Any, Any]:
    """Our decode and encode functions of one message and version."""
    if role == "Request":
        return api.decode_request[version], api.encode_request[version]
    return api.decode_response[version], api.encode_response[version]


def values(name: str, version: int) -> st.SearchStrategy[dict[str, Any]]:
    """Values of all fields that this version of a message has."""
    return _structure(THEIRS[name]._struct, version)


def _structure(struct: Any, version: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        name: _field(field, version) for name, field in struct.fields.items() if field.for_version_q(version)
    }
    return st.fixed_dictionaries(fields)


def _within(version: int, versions: tuple[int, int] | None) -> bool:
    return versions is not None and versions[0] <= version <= versions[1]


def _field(field: Any, version: int) -> st.SearchStrategy[Any]:
    tagged = _within(version, field._tagged_versions)
    if field.is_struct():
        found: st.SearchStrategy[Any] = _structure(field, version)
        return st.none() | found if tagged else found
    if field.is_struct_array():
        found = st.lists(_structure(field.array_of, version), max_size=2)
    elif field._type_str.startswith("[]"):
        element = _primitive(field._type_str[2:])
        found = (
            st.lists(element, max_size=3) | st.lists(element, min_size=130, max_size=130)
            if not tagged
            else st.lists(element)
        )
    else:
        found = _primitive(field._type_str)
    return st.none() | found if _within(version, field._nullable_versions) else found


def _primitive(name: str) -> st.SearchStrategy[Any]:
    if name in _BITS:
        top = 1 << (_BITS[name] - 1)
        return st.integers(-top, top - 1)
    if name == "string":
        return st.text(max_size=6) | st.sampled_from(["x" * 126, "x" * 127, "\u00e9" * 64, "x" * 300])
    if name in ("bytes", "records"):
        return st.binary(max_size=6) | st.sampled_from([bytes(126), bytes(127), bytes(128), bytes(20000)])
    if name == "bool":
        return st.booleans()
    if name == "uuid":
        return st.binary(min_size=16, max_size=16)
    raise AssertionError(f"no values for type {name}")


def our_name(path: str, name: str) -> str:
    """The name of a field in our class."""
    return _OUR_NAMES.get((path, name), name)


def to_ours(module: Any, name: str, tree: dict[str, Any]) -> Any:
    """Our message with these values."""
    return _ours(module, THEIRS[name]._struct, name, name, tree)


def _ours(module: Any, struct: Any, class_name: str, path: str, tree: dict[str, Any]) -> Any:
    arguments = {}
    for name, value in tree.items():
        field = struct.fields[name]
        below = f"{path}.{name}"
        type_name = re.sub(r"^\[\]", "", field._type_str)
        if value is None:
            built: Any = None
        elif field.is_struct():
            built = _ours(module, field, type_name, below, value)
        elif field.is_struct_array():
            built = [_ours(module, field.array_of, type_name, below, item) for item in value]
        else:
            built = value
        arguments[our_name(path, name)] = built
    return getattr(module, class_name)(**arguments)


def to_theirs(name: str, version: int, tree: dict[str, Any]) -> Any:
    """kafka-python's message with these values."""
    return THEIRS[name](version=version, **_their_arguments(THEIRS[name]._struct, version, tree))


def _their_arguments(struct: Any, version: int, tree: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in tree.items():
        field = struct.fields[name]
        if _within(version, field._tagged_versions) and (
            value is None or value == field.default or value == []
        ):
            continue  # Its encoder writes each tagged field that is given; a default is not to be written.
        arguments[name] = _their_value(field, version, value)
    return arguments


def _their_value(field: Any, version: int, value: Any) -> Any:
    if value is None:
        return None
    if field.is_struct():
        return field.data_class(version=version, **_their_arguments(field, version, value))
    if field.is_struct_array():
        make = field.data_class
        return [make(version=version, **_their_arguments(field.array_of, version, item)) for item in value]
    if field._type_str == "uuid":
        return uuid.UUID(bytes=value)
    if field._type_str == "bitfield":
        return {bit for bit in range(32) if value >> bit & 1}
    return value


def plain(struct: Any, version: int, path: str, message: Any) -> dict[str, Any]:
    """Our decoded message as the dictionary of values that it was made of."""
    tree: dict[str, Any] = {}
    for name, field in struct.fields.items():
        if not field.for_version_q(version):
            continue
        value = getattr(message, our_name(path, name))
        below = f"{path}.{name}"
        if value is None:
            tree[name] = None
        elif field.is_struct():
            tree[name] = plain(field, version, below, value)
        elif field.is_struct_array():
            tree[name] = [plain(field.array_of, version, below, item) for item in value]
        elif field._type_str in ("bytes", "records"):
            tree[name] = bytes(value)
        else:
            tree[name] = value
    return tree
