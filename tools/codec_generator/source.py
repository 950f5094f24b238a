"""Lines of Python source with indentation, unique local names, and the packers a module needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from codec_generator.layout import FIXED

_LETTERS = {letter: name for letter, name, _ in FIXED.values()} | {"B": "B", "x": "x"}
_SIZES = {letter: size for letter, _, size in FIXED.values()} | {"B": 1, "x": 1}


class Source:
    """Source text under construction; `packers` collects the module-level struct functions its code refers to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.packers: dict[str, str] = {}
        self.imports: set[str] = set()
        self._indent = 0
        self._names: set[str] = set()

    def line(self, text: str = "") -> None:
        """Append one line at the current indentation."""
        self.lines.append("    " * self._indent + text if text else "")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Append a line that opens a block, and indent until the context ends."""
        self.line(head)
        self._indent += 1
        yield
        self._indent -= 1

    def begin_function(self, reserved: frozenset[str]) -> None:
        """Forget the local names of the function before; `reserved` ones are never handed out."""
        self._names = set(reserved)

    def local(self, name: str) -> str:
        """A local name that was not used yet in this function: `name`, or `name_2` and so on."""
        candidate = name
        number = 2
        while candidate in self._names:
            candidate = f"{name}_{number}"
            number += 1
        self._names.add(candidate)
        return candidate

    def packer(self, action: str, letters: list[str]) -> str:
        """The name of the module-level function that packs or unpacks these struct letters, big-endian."""
        name = f"_{action}_" + "".join(_LETTERS[letter] for letter in letters)
        method = {"unpack": "unpack_from", "pack": "pack", "iterate": "iter_unpack"}[action]
        self.packers[name] = f'{name} = _Packer(">{"".join(letters)}").{method}'
        return name

    def use(self, name: str) -> str:
        """Note that the code needs this function of errors, limits or primitives, and return its name."""
        self.imports.add(name)
        return name


def size_of(letters: list[str]) -> int:
    """Bytes that these struct letters take."""
    return sum(_SIZES[letter] for letter in letters)
