"""Emits one flat encode function per layout.

The idea: everything is gathered in one bytearray, runs of fixed fields by one struct call; only `records` are passed on as the buffers
they came in, so what the function appends to `out` can go to the socket as it is.
"""

from codec_generator.layout import FIXED, Item, Layout
from codec_generator.source import Source

_RESERVED = frozenset({"message", "out", "chunk", "error", "size"})


def emit_encode(source: Source, layout: Layout, function: str) -> None:
    """Write `function(message, out)` for this layout."""
    EncodeEmitter(source).emit(layout, function)


class EncodeEmitter:
    """Writes the body; `chunk` is the name of the bytearray that is written to."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._run: list[tuple[str, str]] = []

    def emit(self, layout: Layout, function: str) -> None:
        """Write the whole function."""
        source = self._source
        source.begin_function(_RESERVED)
        with source.block(f"def {function}(message: {layout.class_name}, out: list[Buffer]) -> None:"):
            if not layout.items and not layout.flexible:
                source.line("pass  # This version has no fields.")
                return
            source.line("chunk = bytearray()")
            with source.block("try:"):
                self._structure(layout, "message", "chunk", layout.class_name)
            with source.block(f"except {source.use('ENCODE_ERRORS')} as error:"):
                source.line(f'raise {source.use("unencodable")}("{layout.class_name}", error) from error')
            source.line("out.append(chunk)")

    def _structure(self, layout: Layout, value: str, chunk: str, path: str) -> None:
        for item in layout.items:
            self._field(item, f"{value}.{item.name}", chunk, f"{path}.{item.name}")
        if layout.tagged:
            self._tagged(layout, value, chunk, path)
        else:
            if layout.flexible:
                self._run.append(("x", ""))
            self._flush(chunk)

    def _flush(self, chunk: str) -> None:
        """Write the fixed fields gathered so far."""
        if not self._run:
            return
        letters = [letter for letter, _ in self._run]
        values = [value for _, value in self._run if value]
        if letters == ["x"]:
            self._source.line(f"{chunk}.append(0)")
        else:
            self._source.line(f"{chunk} += {self._source.packer('pack', letters)}({', '.join(values)})")
        self._run = []

    def _field(self, item: Item, value: str, chunk: str, path: str) -> None:
        if item.is_fixed:
            self._run.append((FIXED[item.type][0], value))
        elif item.is_array:
            self._array(item, value, chunk, path)
        elif item.structure is not None:
            self._nested(item, value, chunk, path)
        elif item.type == "records":
            self._records(item, value, chunk)
        else:
            self._text_or_bytes(item, value, chunk, path)

    def _prefix(self, item: Item, size: str, chunk: str, path: str) -> None:
        """Write a length or count that is not null."""
        source = self._source
        if not item.flexible:
            self._run.append(("h" if item.type == "string" and not item.is_array else "i", size))
            self._flush(chunk)
            return
        source.line(f"size = {size} + 1")
        self._compact(item, chunk, path)

    def _compact(self, item: Item, chunk: str, path: str) -> None:
        """Write `size`, which is one more than the length; one byte goes with the fixed fields before it."""
        source = self._source
        before = self._run
        with source.block("if size < 0x80:"):
            if before:
                self._run = [*before, ("B", "size")]
                self._flush(chunk)
            else:
                source.line(f"{chunk}.append(size)")
        with source.block("else:"):
            self._run = before
            self._flush(chunk)
            if item.type == "string" and not item.is_array:
                source.line(f'{source.use("write_text_length")}({chunk}, size, "{path}")')
            else:
                source.line(f"{source.use('write_unsigned_varint')}({chunk}, size)")

    def _text_or_bytes(self, item: Item, value: str, chunk: str, path: str) -> None:
        source = self._source
        local = source.local(item.name)
        encoded = f"{value}.encode()" if item.type == "string" else value
        if not item.nullable:
            source.line(f"{local} = {encoded}")
            self._prefix(item, f"len({local})", chunk, path)
            source.line(f"{chunk} += {local}")
        elif item.flexible:
            self._flush(chunk)
            with source.block(f"if {value} is None:"):
                source.line(f"{chunk}.append(0)")
            with source.block("else:"):
                source.line(f"{local} = {encoded}")
                self._prefix(item, f"len({local})", chunk, path)
                source.line(f"{chunk} += {local}")
        else:
            with source.block(f"if {value} is None:"):
                source.line(f'{local}, size = b"", -1')
            with source.block("else:"):
                source.line(f"{local} = {encoded}")
                source.line(f"size = len({local})")
            self._run.append(("h" if item.type == "string" else "i", "size"))
            self._flush(chunk)
            source.line(f"{chunk} += {local}")

    def _records(self, item: Item, value: str, chunk: str) -> None:
        """The buffers themselves go to `out`, between what was written before and a new chunk."""
        source = self._source
        assert chunk == "chunk"
        self._flush(chunk)
        local = source.local(item.name)
        source.line(f"{local} = {value}")
        with source.block(f"if {local} is None:"):
            if not item.nullable:
                source.line('raise TypeError("records may not be null")')
            elif item.flexible:
                source.line("chunk.append(0)")
            else:
                source.line(f"chunk += {source.packer('pack', ['i'])}(-1)")
        with source.block("else:"):
            with source.block(f"if isinstance({local}, (memoryview, bytes, bytearray)):"):
                source.line(f"size = len({local})")
                self._records_prefix(item)
                source.line(f"out += (chunk, {local})")
            with source.block("else:"):
                source.line(f"size = sum(map(len, {local}))")
                self._records_prefix(item)
                source.line("out.append(chunk)")
                source.line(f"out += {local}")
            source.line("chunk = bytearray()")

    def _records_prefix(self, item: Item) -> None:
        source = self._source
        if not item.flexible:
            source.line(f"chunk += {source.packer('pack', ['i'])}(size)")
            return
        with source.block("if size < 0x7F:"):
            source.line("chunk.append(size + 1)")
        with source.block("else:"):
            source.line(f"{source.use('write_unsigned_varint')}(chunk, size + 1)")

    def _nested(self, item: Item, value: str, chunk: str, path: str) -> None:
        source = self._source
        assert item.structure is not None
        self._flush(chunk)
        local = source.local(item.name)
        source.line(f"{local} = {value}")
        if not item.nullable:
            with source.block(f"if {local} is None:"):
                source.line(f"{local} = {item.structure.class_name}()")
            self._structure(item.structure, local, chunk, path)
            return
        with source.block(f"if {local} is None:"):
            source.line(f"{chunk}.append(0xFF)")
        with source.block("else:"):
            source.line(f"{chunk}.append(1)")
            self._structure(item.structure, local, chunk, path)

    def _array(self, item: Item, value: str, chunk: str, path: str) -> None:
        source = self._source
        local = source.local(item.name)
        if item.nullable:
            self._flush(chunk)
            source.line(f"{local} = {value}")
            with source.block(f"if {local} is None:"):
                source.line(
                    f"{chunk}.append(0)"
                    if item.flexible
                    else f"{chunk} += {source.packer('pack', ['i'])}(-1)"
                )
            with source.block("else:"):
                self._prefix(item, f"len({local})", chunk, path)
                self._elements(item, local, chunk, path)
        else:
            source.line(f"{local} = {value}")
            self._prefix(item, f"len({local})", chunk, path)
            self._elements(item, local, chunk, path)

    def _elements(self, item: Item, values: str, chunk: str, path: str) -> None:
        source = self._source
        if item.structure is None and item.type in FIXED and item.type != "uuid":
            letter = FIXED[item.type][0]
            source.line(f'{chunk} += {source.use("pack")}(f">{{len({values})}}{letter}", *{values})')
            return
        element = source.local(f"{item.name}_element")
        with source.block(f"for {element} in {values}:"):
            if item.structure is not None:
                self._structure(item.structure, element, chunk, path)
            else:
                plain = Item(item.name, item.type, False, False, item.flexible, item.default, None)
                self._field(plain, element, chunk, path)
                self._flush(chunk)

    def _tagged(self, layout: Layout, value: str, chunk: str, path: str) -> None:
        """Tagged fields are written only where they differ from their defaults; most often none does."""
        source = self._source
        self._flush(chunk)
        conditions = [_differs(item, f"{value}.{item.name}") for _, item in layout.tagged]
        with source.block(f"if {' or '.join(conditions)}:"):
            fields = source.local("tagged_fields")
            source.line(f"{fields}: list[tuple[int, bytearray]] = []")
            for (tag, item), condition in zip(layout.tagged, conditions, strict=True):
                with source.block(f"if {condition}:"):
                    body = source.local("tagged_value")
                    source.line(f"{body} = bytearray()")
                    self._field(item, f"{value}.{item.name}", body, f"{path}.{item.name}")
                    self._flush(body)
                    source.line(f"{fields}.append(({tag}, {body}))")
            source.line(f"{source.use('write_tagged_fields')}({chunk}, {fields})")
        with source.block("else:"):
            source.line(f"{chunk}.append(0)")


def _differs(item: Item, value: str) -> str:
    """An expression that tells whether a tagged field must be written."""
    match item.default:
        case "None":
            return f"{value} is not None"
        case "[]":
            return f"{value} is None or {value}" if item.nullable else value
        case "False" | "''" | "b''" | "0":
            return value if not item.nullable else f"{value} != {item.default}"
        case _:
            return f"{value} != {item.default}"
