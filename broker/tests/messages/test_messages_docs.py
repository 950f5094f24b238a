"""The examples of docs/messages.md, run one after the other against a real broker: what they print is what is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.testing.console_examples import Example, check_examples, examples, pattern
from penstock.testing.process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "messages.md"
# As the page says.
KEPT = {"tracing.topic.enabled": True, "tracing.sampling": 0}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One that keeps events."""
    with BrokerProcess(tmp_path_factory.mktemp("broker"), config=KEPT) as running:
        yield running


def test_examples_are_read_as_they_are_meant() -> None:
    text = "words\n```console\n$ one\na …b\n$ two\n```\n```\n$ not this\n```\n"
    assert examples(text) == [Example("one", ["a …b"]), Example("two", [])]
    assert re.fullmatch(pattern(["a …b.", "c"]), "a xyb.\nc")
    assert not re.fullmatch(pattern(["a …b."]), "a x\nb.")


def test_the_examples_print_what_they_say(broker: BrokerProcess, tmp_path: Path) -> None:
    asked = examples(DOCUMENT.read_text())
    assert len(asked) >= 8
    check_examples(asked, tmp_path, {"PENSTOCK_ADMIN": broker.admin, "PENSTOCK_SERVER": broker.http})
