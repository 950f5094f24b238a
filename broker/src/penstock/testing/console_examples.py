"""The console examples of a page of the documentation: what they print is what is written there.

A line `$ command` of a block ```` ```console ```` is run by bash; the lines below it are its output, where … stands for
anything within a line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

COMMAND_TIMEOUT_S = 30


class Example(NamedTuple):
    """A command and the lines that it prints."""

    command: str
    output: list[str]


def examples(text: str) -> list[Example]:
    """All of them, in order."""
    found: list[Example] = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Example(line[2:], []))
            else:
                found[-1].output.append(line)
    return found


def pattern(lines: Sequence[str]) -> str:
    """A regular expression of the lines."""
    return "\n".join(".*".join(map(re.escape, line.split("…"))) for line in lines)


def check_examples(asked: Sequence[Example], folder: Path, environment: Mapping[str, str]) -> None:
    """Runs one after the other in `folder`, with this Python's programs. Raises AssertionError where one prints something else."""
    whole = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment}
    for example in asked:
        done = subprocess.run(
            ["bash", "-c", example.command],
            env=whole,
            cwd=folder,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = [line.rstrip() for line in done.stdout.rstrip("\n").split("\n")] if done.stdout else []
        assert re.fullmatch(pattern(example.output), "\n".join(printed)), (
            f"$ {example.command}\n{done.stdout}"
        )
