"""Reads the text format of etcd's transcripts: a command, its input, a line of dashes, the output it should give.

The format is that of the Go module github.com/cockroachdb/datadriven: blank lines end a case, `#` starts a comment, and
arguments are words, `key=value` or `key=(value, value)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ARGUMENT = re.compile(r"([^\s=]+)(=?)(\([^)]*\)|\S*)")
SEPARATOR = "----"


@dataclass
class Case:
    """One command. `words` are the arguments without a value, in order; `values` those with one."""

    place: str
    command: str
    words: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    input: str = ""
    expected: str = ""

    def value(self, key: str, default: str) -> str:
        """The only value of an argument."""
        (value,) = self.values.get(key, [default])
        return value

    def numbers(self, key: str) -> tuple[int, ...]:
        """An argument's values as numbers; none where it is not given."""
        return tuple(int(value) for value in self.values.get(key, []))


def _directive(place: str, line: str) -> Case:
    command, _, rest = line.partition(" ")
    case = Case(place, command)
    for key, has_value, value in ARGUMENT.findall(rest):
        if has_value:
            case.values[key] = [part.strip() for part in value.strip("()").split(",")]
        else:
            case.words.append(key)
    return case


def read_cases(path: Path) -> list[Case]:
    """All cases of a file, in order."""
    cases = []
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        case = _directive(f"{path.name}:{at}", line)
        start = at
        while lines[at] != SEPARATOR:
            at += 1
        case.input = "\n".join(lines[start:at])
        start = at = at + 1
        while at < len(lines) and lines[at].strip():
            at += 1
        case.expected = "\n".join(lines[start:at])
        assert SEPARATOR not in case.expected, f"{case.place}: output with blank lines is not read"
        cases.append(case)
    assert cases, f"{path} has no cases"
    return cases
