"""What the pages show can be pasted."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_curl_that_sends_something_says_what_it_is() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    sending = [
        line for page in pages for line in page.read_text().splitlines() if "curl " in line and " -d " in line
    ]
    assert sending
    assert not [line for line in sending if "content-type: application/json" not in line.lower()]
