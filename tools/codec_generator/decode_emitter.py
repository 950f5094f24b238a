"""Emits one flat decode function per layout.

The idea: at every point the code knows that the least size of what is left of the structure is there, because each check of a length
also counts the least size of the fields behind it. So runs of fixed fields, with the length or count byte behind them, are read by one
struct call that cannot fail, and only variable parts are checked. No reflection, no call per field.
"""

from collections.abc import Callable

from codec_generator.layout import FIXED, Item, Layout
from codec_generator.source import Source, size_of

_RESERVED = frozenset(
    {"buffer", "position", "limit", "length", "count", "budget", "end", "field", "tags", "tag", "_", "error"}
)

_PYTHON_TYPES = {
    "bool": "bool",
    "float64": "float",
    "uuid": "bytes",
    "string": "str",
    "bytes": "bytes",
    "records": "memoryview",
}


def emit_decode(source: Source, layout: Layout, function: str, budget: str) -> None:
    """Write `function(buffer, position) -> (message, position)` for this layout; `budget` names the bound of array elements."""
    DecodeEmitter(source, budget).emit(layout, function)


class DecodeEmitter:
    """Writes the body; `limit` is the name of the variable behind which the value being read must not go."""

    def __init__(self, source: Source, budget: str) -> None:
        self._source = source
        self._budget = budget
        self._run: list[tuple[str, str]] = []
        self._declared: set[str] = set()

    def emit(self, layout: Layout, function: str) -> None:
        """Write the whole function."""
        source = self._source
        name = layout.class_name
        source.begin_function(_RESERVED)
        with source.block(f"def {function}(buffer: memoryview, position: int) -> tuple[{name}, int]:"):
            if layout.items or layout.flexible:
                source.line("limit = len(buffer)")
            if _holds(layout, lambda item: item.is_array):
                source.line(f"budget = {source.use(self._budget)}")
            if _holds(layout, lambda item: item.type == "string"):
                with source.block("try:"):
                    self._message(layout)
                with source.block("except UnicodeDecodeError as error:"):
                    source.line(f"raise {source.use('not_text')}(field, position, error) from error")
            else:
                self._message(layout)

    def _message(self, layout: Layout) -> None:
        name = layout.class_name
        if layout.minimum:
            self._require(layout.minimum, "limit", name)
        value = self._structure(layout, "limit", name)
        self._source.line(f"return {value}, position")

    def _structure(self, layout: Layout, limit: str, path: str) -> str:
        """Read all fields; the result is the expression that builds the structure."""
        values = self._fields(layout, limit, path)
        return f"{layout.class_name}({', '.join(f'{name}={local}' for name, local in values)})"

    def _fields(self, layout: Layout, limit: str, path: str) -> list[tuple[str, str]]:
        values: list[tuple[str, str]] = []
        rest = layout.minimum
        for item in layout.items:
            rest -= item.minimum
            local = self._source.local(item.name)
            values.append((item.name, local))
            if item.is_fixed:
                self._run.append((FIXED[item.type][0], local))
            else:
                self._variable(item, local, rest, limit, f"{path}.{item.name}")
        if layout.tagged:
            self._tagged(layout, values, limit, path)
        elif layout.flexible:
            self._prefix("B", "tags")
            with self._source.block("if tags:"):
                skip = self._source.use("skip_tagged_fields")
                self._source.line(f'position = {skip}(buffer, position - 1, {limit}, "{path}")')
        else:
            self._flush()
        return values

    def _flush(self) -> None:
        """Read the fixed fields gathered so far."""
        if not self._run:
            return
        letters = [letter for letter, _ in self._run]
        targets = [target for _, target in self._run]
        if letters == ["B"]:
            self._source.line(f"{targets[0]} = buffer[position]")
        elif len(letters) == 1:
            self._source.line(f"({targets[0]},) = {self._source.packer('unpack', letters)}(buffer, position)")
        else:
            self._source.line(
                f"{', '.join(targets)} = {self._source.packer('unpack', letters)}(buffer, position)"
            )
        self._source.line(f"position += {size_of(letters)}")
        self._run = []

    def _prefix(self, letter: str, target: str) -> None:
        """Read a length, count or marker together with the fixed fields before it."""
        self._run.append((letter, target))
        self._flush()

    def _require(self, minimum: int, limit: str, path: str) -> None:
        condition = f"position >= {limit}" if minimum == 1 else f"{limit} - position < {minimum}"
        with self._source.block(f"if {condition}:"):
            self._source.line(
                f'raise {self._source.use("cut_short")}("{path}", position, {minimum}, {limit})'
            )

    def _declare(self, item: Item, local: str) -> None:
        """Tell the type checker the type of a local that is assigned in several places; no code at run time."""
        if local not in self._declared:
            self._source.line(f"{local}: {_annotation(item)}")

    def _variable(self, item: Item, local: str, rest: int, limit: str, path: str) -> None:
        """Read a string, bytes, records, array or structure into `local`, leaving at least `rest` bytes before `limit`."""
        if item.is_array:
            self._array(item, local, rest, limit, path)
        elif item.structure is not None:
            self._nested(item, local, rest, limit, path)
        else:
            self._text_or_bytes(item, local, rest, limit, path)

    def _text_or_bytes(self, item: Item, local: str, rest: int, limit: str, path: str) -> None:
        source = self._source
        if item.flexible:
            self._prefix("B", "length")
            helper = "text_length" if item.type == "string" else "unsigned_varint"
            with source.block("if length >= 0x80:"):
                source.line(
                    f'length, position = {source.use(helper)}(buffer, position - 1, {limit}, {rest}, "{path}")'
                )
        else:
            self._prefix("h" if item.type == "string" else "i", "length")
        null = 0 if item.flexible else -1
        length = "length - 1" if item.flexible else "length"
        if item.nullable:
            self._declare(item, local)
            with source.block(f"if length == {null}:"):
                source.line(f"{local} = None")
            with source.block("else:"):
                self._slice(item, local, length, rest, limit, path)
        else:
            self._slice(item, local, length, rest, limit, path)

    def _slice(self, item: Item, local: str, length: str, rest: int, limit: str, path: str) -> None:
        source = self._source
        source.line(f"end = position + {length}")
        with source.block(f"if end < position or end{_plus(rest)} > {limit}:"):
            source.line(f'raise {source.use("bad_length")}("{path}", position, {length}, {limit})')
        if item.type == "string":
            source.line(f'field = "{path}"')
        conversion = {"string": ".tobytes().decode()", "bytes": ".tobytes()", "records": ""}[item.type]
        source.line(f"{local} = buffer[position:end]{conversion}")
        source.line("position = end")

    def _nested(self, item: Item, local: str, rest: int, limit: str, path: str) -> None:
        source = self._source
        assert item.structure is not None
        if not item.nullable:
            source.line(f"{local} = {self._structure(item.structure, limit, path)}")
        else:
            # A nullable structure begins with a signed byte, negative for null.
            self._prefix("b", "length")
            self._declare(item, local)
            with source.block("if length < 0:"):
                source.line(f"{local} = None")
            with source.block("else:"):
                if item.structure.minimum:
                    self._require(item.structure.minimum, limit, path)
                source.line(f"{local} = {self._structure(item.structure, limit, path)}")
        if rest:
            self._require(rest, limit, path)

    def _array(self, item: Item, local: str, rest: int, limit: str, path: str) -> None:
        source = self._source
        if item.flexible:
            self._prefix("B", "count")
            with source.block("if count >= 0x80:"):
                helper = source.use("unsigned_varint")
                source.line(f'count, position = {helper}(buffer, position - 1, {limit}, {rest}, "{path}")')
            source.line("count -= 1")
        else:
            self._prefix("i", "count")
        self._declare(item, local)
        if item.nullable:
            with source.block("if count == -1:"):
                source.line(f"{local} = None")
            with source.block("else:"):
                self._elements(item, local, rest, limit, path)
        else:
            self._elements(item, local, rest, limit, path)

    def _elements(self, item: Item, local: str, rest: int, limit: str, path: str) -> None:
        source = self._source
        size = item.element_minimum
        with source.block(
            f"if count < 0 or count > budget or position + count * {size}{_plus(rest)} > {limit}:"
        ):
            source.line(
                f'raise {source.use("bad_count")}("{path}", position, count, {size}, {limit}, budget)'
            )
        source.line("budget -= count")
        if item.structure is not None and item.structure.is_fixed:
            self._fixed_structures(item, item.structure, local)
        elif item.structure is None and item.type in FIXED:
            self._fixed_values(item, local)
        else:
            source.line(f"{local} = []")
            with source.block("for _ in range(count):"):
                self._require(size, limit, f"{path}[]")
                if item.structure is not None:
                    source.line(f"{local}.append({self._structure(item.structure, limit, path)})")
                else:
                    element = source.local(f"{local}_element")
                    plain = Item(item.name, item.type, False, False, item.flexible, item.default, None)
                    self._text_or_bytes(plain, element, 0, limit, path)
                    source.line(f"{local}.append({element})")
            if rest:
                self._require(rest, limit, path)

    def _fixed_structures(self, item: Item, structure: Layout, local: str) -> None:
        """All elements have one size: one pass of the struct module over the checked bytes."""
        source = self._source
        letters = [FIXED[child.type][0] for child in structure.items]
        names = [child.name for child in structure.items]
        build = f"{structure.class_name}({', '.join(f'{name}={name}' for name in names)})"
        iterate = f"{source.packer('iterate', letters)}(buffer[position:end])"
        source.line(f"end = position + count * {size_of(letters)}")
        source.line(
            f"{local} = [{build} for {', '.join(names)}{',' if len(names) == 1 else ''} in {iterate}]"
        )
        source.line("position = end")

    def _fixed_values(self, item: Item, local: str) -> None:
        source = self._source
        letter, _, size = FIXED[item.type]
        source.line(f"end = position + count * {size}")
        if item.type == "uuid":
            source.line(
                f"{local} = [buffer[start : start + 16].tobytes() for start in range(position, end, 16)]"
            )
        else:
            source.line(
                f'{local} = list({source.use("unpack_from")}(f">{{count}}{letter}", buffer, position))'
            )
        source.line("position = end")

    def _tagged(self, layout: Layout, values: list[tuple[str, str]], limit: str, path: str) -> None:
        """Read known tagged fields, step over unknown ones; those that are absent keep their defaults."""
        source = self._source
        # Absent ones are named after the plain fields, so the fixed fields before the count can still be read with it.
        self._prefix("B", "tags")
        known: list[tuple[int, Item, str]] = []
        for tag, item in layout.tagged:
            local = source.local(item.name)
            source.line(f"{local}: {_annotation(item, tagged=True)} = {item.default}")
            self._declared.add(local)
            values.append((item.name, local))
            known.append((tag, item, local))
        tag_end = source.local("tag_end")
        with source.block("if tags:"):
            with source.block("if tags >= 0x80:"):
                source.line(
                    f'tags, position = {source.use("unsigned_varint")}(buffer, position - 1, {limit}, 0, "{path}")'
                )
            with source.block("for _ in range(tags):"):
                header = source.use("tagged_field_header")
                source.line(f'tag, position, {tag_end} = {header}(buffer, position, {limit}, "{path}")')
                for number, (tag, item, local) in enumerate(known):
                    with source.block(f"{'if' if number == 0 else 'elif'} tag == {tag}:"):
                        self._tagged_value(item, local, tag_end, f"{path}.{item.name}")
                with source.block("else:"):
                    source.line(f"position = {tag_end}")

    def _tagged_value(self, item: Item, local: str, tag_end: str, path: str) -> None:
        source = self._source
        self._require(item.minimum, tag_end, path)
        if item.is_fixed:
            self._run.append((FIXED[item.type][0], local))
            self._flush()
        else:
            self._variable(item, local, 0, tag_end, path)
        with source.block(f"if position != {tag_end}:"):
            source.line(f'raise {source.use("wrong_tag_size")}("{path}", position, {tag_end})')


def _annotation(item: Item, tagged: bool = False) -> str:
    element = item.structure.class_name if item.structure else _PYTHON_TYPES.get(item.type, "int")
    text = f"list[{element}]" if item.is_array else element
    absent = tagged and item.default == "None"
    return f"{text} | None" if item.nullable or absent else text


def _plus(rest: int) -> str:
    return f" + {rest}" if rest else ""


def _holds(layout: Layout, test: Callable[[Item], bool]) -> bool:
    """Whether any field, at any depth, passes the test."""
    items = [*layout.items, *(item for _, item in layout.tagged)]
    return any(test(item) or (item.structure is not None and _holds(item.structure, test)) for item in items)
