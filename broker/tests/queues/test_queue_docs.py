"""The examples of docs/guides/queues.md, run one after the other against a real broker: what they print is what is written there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.testing.console_examples import check_examples, examples

if TYPE_CHECKING:
    from penstock.testing.process import BrokerProcess

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "guides" / "queues.md"


def test_the_examples_print_what_they_say(broker: BrokerProcess, tmp_path: Path) -> None:
    asked = examples(DOCUMENT.read_text())
    assert len(asked) >= 12
    check_examples(asked, tmp_path, {"PENSTOCK_ADMIN": broker.admin, "PENSTOCK_SERVER": broker.http})
