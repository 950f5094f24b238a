"""The message schemas as typed values: version ranges, fields and structures, still for all versions at once."""

import keyword
import re
from dataclasses import dataclass, replace
from typing import Any

_NO_MAXIMUM = 1 << 15
_PRIMITIVES = frozenset(
    {
        "bool",
        "int8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "float64",
        "uuid",
        "string",
        "bytes",
        "records",
    }
)


@dataclass(frozen=True, slots=True)
class Versions:
    """A range of versions, both ends included; empty when the maximum is below the minimum."""

    minimum: int
    maximum: int

    @classmethod
    def parse(cls, text: str | None) -> "Versions":
        """Read `none`, `3`, `3-7` or `3+`."""
        if text is None or text == "none":
            return cls(0, -1)
        if text.endswith("+"):
            return cls(int(text[:-1]), _NO_MAXIMUM)
        first, _, last = text.partition("-")
        return cls(int(first), int(last or first))

    def __contains__(self, version: int) -> bool:
        return self.minimum <= version <= self.maximum

    def meets(self, other: "Versions") -> bool:
        """Whether a version is in both ranges."""
        return max(self.minimum, other.minimum) <= min(self.maximum, other.maximum)


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `type` is a primitive's name or a structure's; `is_array` says that there is a list of them."""

    name: str
    type: str
    is_array: bool
    versions: Versions
    nullable: Versions
    tagged: Versions
    tag: int
    default: object

    @property
    def is_structure(self) -> bool:
        return self.type not in _PRIMITIVES


@dataclass(frozen=True, slots=True)
class Message:
    """A request, a response or a data message; `structures` holds the fields of each structure, its own under its own name."""

    name: str
    api_key: int
    valid: Versions
    flexible: Versions
    structures: dict[str, tuple[Field, ...]]

    def with_own_names(self, shared: set[str]) -> "Message":
        """The same message, with its own name put before the names of these structures, which another message has too."""
        names = {name: self.name + name if name in shared else name for name in self.structures}
        structures = {
            names[name]: tuple(replace(field, type=names.get(field.type, field.type)) for field in fields)
            for name, fields in self.structures.items()
        }
        return replace(self, structures=structures)


def read_message(schema: dict[str, Any]) -> Message:
    """Turn one schema file into a `Message`."""
    structures: dict[str, tuple[Field, ...]] = {}
    for common in schema.get("commonStructs", []):
        structures[common["name"]] = tuple(_read_field(raw, structures) for raw in common["fields"])
    structures[schema["name"]] = tuple(_read_field(raw, structures) for raw in schema["fields"])
    return Message(
        name=schema["name"],
        api_key=schema.get("apiKey", -1),
        valid=Versions.parse(schema["validVersions"]),
        flexible=Versions.parse(schema["flexibleVersions"]),
        structures=structures,
    )


def _read_field(raw: dict[str, Any], structures: dict[str, tuple[Field, ...]]) -> Field:
    if "flexibleVersions" in raw:
        raise ValueError(
            f"field {raw['name']} has its own flexible versions, which this generator does not know"
        )
    type_name: str = raw["type"]
    is_array = type_name.startswith("[]")
    type_name = type_name.removeprefix("[]")
    if "fields" in raw:
        fields = tuple(_read_field(child, structures) for child in raw["fields"])
        if structures.setdefault(type_name, fields) != fields:
            raise ValueError(f"structure {type_name} is defined twice, with different fields")
    return Field(
        name=snake_case(raw["name"]),
        type=type_name,
        is_array=is_array,
        versions=Versions.parse(raw.get("versions", raw.get("taggedVersions"))),
        nullable=Versions.parse(raw.get("nullableVersions")),
        tagged=Versions.parse(raw.get("taggedVersions")),
        tag=raw.get("tag", -1),
        default=_default(type_name, is_array, raw.get("default")),
    )


def _default(type_name: str, is_array: bool, text: Any) -> object:
    """The default as a Python value; a structure and a list have None or, for an empty list, []."""
    if text == "null" or type_name not in _PRIMITIVES:
        return [] if is_array and text != "null" else None
    if is_array:
        return []
    match type_name:
        case "string":
            return "" if text is None else str(text)
        case "bool":
            return str(text).lower() == "true"
        case "float64":
            return float(text or 0)
        case "uuid":
            return bytes(16)
        case "bytes":
            return b""
        case "records":
            return None
        case _:
            return int(str(text), 0) if text is not None else 0


def snake_case(name: str) -> str:
    """`TopicId` to `topic_id`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    if keyword.iskeyword(snake):
        raise ValueError(f"field {name} would become the Python keyword {snake}")
    return snake
