"""What holds for every selector and every message: the same tree after writing and reading, the oracle's answer, the
laws of three-valued logic, and no other exception than the named one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.selectors import compiling
from penstock.selectors.compiling import compile_condition
from penstock.selectors.errors import SelectorError
from penstock.selectors.filtering import compile_filter, compile_selector
from penstock.selectors.limits import DEPTH_MAX, EXPRESSION_CHARACTERS_MAX
from penstock.selectors.parser import parse
from penstock.selectors.tags import parse_tags
from penstock.selectors.tree import And, Node, Not, Or, names_in, write
from penstock.selectors.values import UNLIKE, Value, number_in
from selector_oracle import judge, read_number
from selector_strategies import conditions, messages, number_texts, soups

Compiled = TypeVar("Compiled")


@given(conditions)
def test_a_tree_that_is_written_is_read_as_itself(tree: Node) -> None:
    # By repr, because 1 and 1.0 and True are equal.
    assert repr(parse(write(tree))) == repr(tree)


@settings(max_examples=500)
@given(conditions, messages)
def test_a_compiled_selector_says_what_the_oracle_says(tree: Node, message: Mapping[str, Value]) -> None:
    assert compile_condition(tree)(message) is judge(tree, message)


@given(conditions, messages)
def test_properties_that_a_selector_does_not_name_change_nothing(
    tree: Node, message: Mapping[str, Value]
) -> None:
    named = set(names_in(tree))
    seen = {name: value for name, value in message.items() if name in named}
    assert compile_condition(tree)(seen) is compile_condition(tree)(message)


@given(conditions, conditions, conditions, messages)
def test_the_laws_of_three_valued_logic(
    one: Node, other: Node, third: Node, message: Mapping[str, Value]
) -> None:
    def same(left: Node, right: Node) -> None:
        assert compile_condition(left)(message) is compile_condition(right)(message)

    same(Not(And((one, other))), Or((Not(one), Not(other))))
    same(Not(Or((one, other))), And((Not(one), Not(other))))
    same(Not(Not(one)), one)
    same(And((one, other)), And((other, one)))
    same(Or((one, other)), Or((other, one)))
    same(And((one, And((other, third)))), And((one, other, third)))
    same(And((one, Or((other, third)))), Or((And((one, other)), And((one, third)))))
    same(Or((one, And((one, other)))), And((one, Or((one, other)))))


def attempted(compiler: Callable[[str], Compiled], text: str) -> tuple[Compiled | None, SelectorError | None]:
    """What it makes of the text, or the one error that it may raise."""
    try:
        return compiler(text), None
    except SelectorError as error:
        return None, error


@settings(max_examples=500)
@given(soups, messages)
def test_any_text_is_a_selector_or_is_refused_at_a_position(text: str, message: Mapping[str, Value]) -> None:
    selector, refused = attempted(compile_selector, text)
    if selector is not None:
        assert selector.evaluate(message) in (True, False, None)
    if refused is not None:
        assert 1 <= refused.position <= len(text) + 1
        assert str(refused) == f"at character {refused.position}: {refused.reason}"


@given(st.text("ab|* \t"))
def test_any_text_is_a_tag_expression_or_is_refused_at_a_position(text: str) -> None:
    tags, refused = attempted(parse_tags, text)
    if refused is not None:
        assert 1 <= refused.position <= len(text) + 1
    else:
        assert (tags is None) == (text.strip() in ("", "*"))
        assert tags is None or parse_tags(" || ".join(tags)) == tags


@given(
    soups,
    st.binary(max_size=8) | st.none(),
    st.lists(st.tuples(st.text("aTGS", max_size=4), st.binary() | st.none())),
)
def test_any_record_passes_a_filter_or_does_not(
    text: str, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    wanted, refused = attempted(lambda sql: compile_filter(tags="a || b", sql=sql), f"KEYS = 'a' OR ({text})")
    assert refused is None or refused.field == "sql"
    assert wanted is None or wanted.matches(key, 5, headers) in (True, False)


@given(number_texts)
def test_numbers_in_headers_are_those_of_the_oracle(text: str) -> None:
    found = number_in(text)
    assert repr(None if found is UNLIKE else found) == repr(read_number(text))


NESTINGS: list[Callable[[int], str]] = [
    lambda depth: "(" * depth + "a = 1" + ")" * depth,
    lambda depth: "NOT " * depth + "a = 1",
    lambda depth: "- " * depth + "a = 1",
    lambda depth: "NOT (" * (depth // 2) + "a = 1" + ")" * (depth // 2),
]


@pytest.mark.parametrize("nested", NESTINGS)
def test_depth_is_bounded(nested: Callable[[int], str]) -> None:
    assert compile_selector(nested(DEPTH_MAX)).evaluate({"a": "1"}) is not None
    with pytest.raises(SelectorError, match=f"more than {DEPTH_MAX} levels deep"):
        compile_selector(nested(DEPTH_MAX + 2))
    with pytest.raises(SelectorError):
        compile_selector(nested(EXPRESSION_CHARACTERS_MAX))


def test_what_stands_side_by_side_has_no_depth() -> None:
    beside = " AND ".join(["(NOT -(a) > 0)"] * (DEPTH_MAX + 1))
    assert compile_selector(beside).matches({"a": "1"})


def test_a_broken_rule_is_found_by_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the comparison with the oracle can fail: with AND that takes unknown for true, it does."""

    def careless(parts: list[compiling.Condition], decisive: bool) -> compiling.Condition:
        return lambda message: decisive if any(part(message) is decisive for part in parts) else not decisive

    monkeypatch.setattr(compiling, "_joined", careless)
    with pytest.raises(AssertionError):
        test_a_compiled_selector_says_what_the_oracle_says()
