"""What one version of a message looks like on the wire.

Two versions with equal layouts share their code. Each layout knows the least number of bytes it takes, which is what counts and
lengths are checked against before anything is allocated.
"""

from dataclasses import dataclass

from codec_generator.schemas import Field, Message

# Fixed-size types: letter for the struct module, letter for names of packers, size in bytes.
FIXED = {
    "bool": ("?", "o", 1),
    "int8": ("b", "b", 1),
    "int16": ("h", "h", 2),
    "uint16": ("H", "H", 2),
    "int32": ("i", "i", 4),
    "uint32": ("I", "I", 4),
    "int64": ("q", "q", 8),
    "float64": ("d", "d", 8),
    "uuid": ("16s", "u", 16),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One field in one version."""

    name: str
    type: str
    is_array: bool
    nullable: bool
    flexible: bool
    default: str
    structure: "Layout | None"

    @property
    def is_fixed(self) -> bool:
        """Whether the field always has the same size and can be read together with its neighbours."""
        return not self.is_array and self.type in FIXED

    @property
    def element_minimum(self) -> int:
        """The least number of bytes of the value, for an array of one element."""
        if self.structure is not None:
            return self.structure.minimum
        if self.type in FIXED:
            return FIXED[self.type][2]
        return 1 if self.flexible else 2 if self.type == "string" else 4

    @property
    def minimum(self) -> int:
        """The least number of bytes of the field."""
        if self.is_array:
            return 1 if self.flexible else 4
        if self.structure is not None and self.nullable:
            return 1
        return self.element_minimum


@dataclass(frozen=True, slots=True)
class Layout:
    """A structure in one version: its fields in order, and the tagged ones with their tags in ascending order."""

    class_name: str
    items: tuple[Item, ...]
    tagged: tuple[tuple[int, Item], ...]
    flexible: bool

    @property
    def minimum(self) -> int:
        """The least number of bytes, the count of tagged fields included."""
        return sum(item.minimum for item in self.items) + self.flexible

    @property
    def is_fixed(self) -> bool:
        """Whether every value of the structure has the same size."""
        return not self.flexible and all(item.is_fixed for item in self.items)


def layout_of(message: Message, structure: str, version: int) -> Layout:
    """The layout of one structure of a message (the message itself goes by its own name) in one version."""
    flexible = version in message.flexible
    items: list[Item] = []
    tagged: list[tuple[int, Item]] = []
    for field in message.structures[structure]:
        if version not in field.versions:
            continue
        item = _item(message, field, version, flexible)
        if version in field.tagged:
            tagged.append((field.tag, item))
        else:
            items.append(item)
    tagged.sort(key=lambda pair: pair[0])
    return Layout(structure, tuple(items), tuple(tagged), flexible)


def _item(message: Message, field: Field, version: int, flexible: bool) -> Item:
    item = Item(
        name=field.name,
        type=field.type,
        is_array=field.is_array,
        nullable=version in field.nullable,
        flexible=flexible,
        default=repr(field.default),
        structure=layout_of(message, field.type, version) if field.is_structure else None,
    )
    if field.is_array and item.element_minimum < 1:
        raise ValueError(
            f"{message.name}.{field.name} v{version}: an element of no bytes would make its count unbounded"
        )
    if field.type == "records" and (field.is_array or version in field.tagged):
        raise ValueError(
            f"{message.name}.{field.name} v{version}: records are supported only as a plain field"
        )
    return item
