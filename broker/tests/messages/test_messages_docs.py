"""The examples of docs/messages.md, run one after the other against a real broker: what they print is what is written there.

A line `$ command` is run by bash; the lines below it are its output, where … stands for anything within a line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from penstock.testing.process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "messages.md"
COMMAND_TIMEOUT_S = 30
# As the page says.
KEPT = {"tracing.topic.enabled": True, "tracing.sampling": 0}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One that keeps events."""
    with BrokerProcess(tmp_path_factory.mktemp("broker"), config=KEPT) as running:
        yield running


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


def pattern(lines: list[str]) -> str:
    """A regular expression of the lines."""
    return "\n".join(".*".join(map(re.escape, line.split("…"))) for line in lines)


def test_examples_are_read_as_they_are_meant() -> None:
    text = "words\n```console\n$ one\na …b\n$ two\n```\n```\n$ not this\n```\n"
    assert examples(text) == [Example("one", ["a …b"]), Example("two", [])]
    assert re.fullmatch(pattern(["a …b.", "c"]), "a xyb.\nc")
    assert not re.fullmatch(pattern(["a …b."]), "a x\nb.")


def test_the_examples_print_what_they_say(broker: BrokerProcess, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PENSTOCK_ADMIN": broker.admin,
        "PENSTOCK_SERVER": broker.http,
    }
    asked = examples(DOCUMENT.read_text())
    assert len(asked) >= 8
    for example in asked:
        done = subprocess.run(
            ["bash", "-c", example.command],
            env=environment,
            cwd=tmp_path,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = [line.rstrip() for line in done.stdout.rstrip("\n").split("\n")] if done.stdout else []
        assert re.fullmatch(pattern(example.output), "\n".join(printed)), (
            f"$ {example.command}\n{done.stdout}"
        )
