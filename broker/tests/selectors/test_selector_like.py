"""LIKE: the matcher against one that tries everything, and how many characters it looks at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.selectors.like import check_pattern, compile_pattern
from penstock.selectors.limits import PATTERN_CHARACTERS_MAX, PROPERTY_BYTES_MAX
from selector_oracle import fits


@settings(max_examples=500)
@given(
    st.text("ab%_!", max_size=10), st.sampled_from([None, "!", "%", "_", "a"]), st.text("ab%_!", max_size=10)
)
def test_a_pattern_fits_what_the_oracle_says(pattern: str, escape: str | None, text: str) -> None:
    if check_pattern(pattern, escape) is None:
        assert compile_pattern(pattern, escape)(text) is fits(text, pattern, escape)


@settings(max_examples=500)
@given(st.lists(st.text("ab_", max_size=3), max_size=4), st.text("ab", max_size=10))
def test_segments_are_found_one_after_the_other(segments: list[str], text: str) -> None:
    pattern = "%".join(segments)
    assert compile_pattern(pattern, None)(text) is fits(text, pattern, None)


class Watched(str):
    """A text that counts how often one of its characters is looked at."""

    looks = 0

    def __getitem__(self, index: object) -> str:
        self.looks += 1
        return super().__getitem__(index)  # type: ignore[index]


HARD = [
    "%" + "a_" * ((PATTERN_CHARACTERS_MAX - 4) // 2) + "b%",
    "%" + "%".join(["a_a"] * 60) + "%_b",
    "_" * (PATTERN_CHARACTERS_MAX - 1) + "%",
    "%_" * (PATTERN_CHARACTERS_MAX // 2) + "b",
    "%a_b%c",
]


@pytest.mark.parametrize("pattern", HARD)
def test_no_pattern_looks_at_a_text_more_than_once_and_at_its_ends_again(pattern: str) -> None:
    assert len(pattern) <= PATTERN_CHARACTERS_MAX + 1
    text = Watched("a" * PROPERTY_BYTES_MAX)
    compile_pattern(pattern, None)(text)
    assert text.looks <= len(text) + len(pattern)


def test_what_escapes_stands_before_something_that_it_escapes() -> None:
    assert check_pattern("50!%!_!!", "!") is None
    assert check_pattern("a%b_", None) is None
    assert check_pattern("!a", "!") == "! escapes %, _ and itself: it stands before a in the pattern"
    assert check_pattern("!!!", "!") == "! escapes %, _ and itself: it stands before the end in the pattern"
