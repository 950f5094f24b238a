"""The commands in the runbooks, as a shell would cut them into words; and what each of them is a command of."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring_files import RUNBOOKS

if TYPE_CHECKING:
    from pathlib import Path

FENCE = re.compile(r"```\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a line; those behind a pipe are of their own."""

    page: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands(page: Path) -> list[Command]:
    """All commands of a page; what runs in a pod, behind `--`, is a command too."""
    lines = [line for block in FENCE.findall(page.read_text()) for line in block.splitlines() if line.strip()]
    found = []
    for line in lines:
        part: list[str] = []
        for word in [*shlex.split(line, comments=True), "|"]:
            if word in ("|", "--"):
                found.append(Command(page.name, tuple(part)))
                part = []
            else:
                part.append(word)
    return found


def every_command(program: str) -> list[Command]:
    """The commands of one program, on all pages, each once."""
    pages = sorted(RUNBOOKS.glob("*.md"))
    return list(dict.fromkeys(one for page in pages for one in commands(page) if one.program == program))
