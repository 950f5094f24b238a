"""Rules that follow named messages for a limited time."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.broker_options import BROKER_OPTIONS
from penstock.config.options import OptionError
from penstock.tracing.rules import (
    RULE_MS_MAX,
    RULE_TEXT_MAX,
    RULES_MAX,
    Rule,
    RuleError,
    fits_pattern,
    living,
    parse_rules,
    with_rule,
    write_rules,
)

KEYS = Rule("keys", 1000, topic="orders", key="order-4711*")
MESSAGE = Rule("message", 1000, message_id="m-1")


def test_a_rule_names_messages_by_id_or_by_key() -> None:
    assert KEYS.fits("orders", None, b"order-4711/3")
    assert not KEYS.fits("orders", None, b"order-4712")
    assert not KEYS.fits("orders", None, None)
    assert not KEYS.fits("others", None, b"order-4711")
    assert MESSAGE.fits("anything", "m-1", None)
    assert not MESSAGE.fits("anything", None, b"m-1")


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_patterns_are_those_of_fnmatch(pattern: str, key: str) -> None:
    assert fits_pattern(pattern.encode(), key.encode()) == fnmatch.fnmatchcase(key, pattern)


def test_rules_travel_as_text_and_end_with_their_time() -> None:
    rules = with_rule(with_rule((), KEYS, 0), MESSAGE, 0)
    assert parse_rules(write_rules(rules)) == (KEYS, MESSAGE)
    assert parse_rules(write_rules(())) == ()
    assert living(rules, 999) == rules
    assert living(rules, 1000) == ()
    # Another rule of the same id takes the place of the first one, and what is over goes.
    newer = Rule("keys", 5000, key="*")
    assert with_rule(rules, newer, 1) == (MESSAGE, newer)
    assert with_rule(rules, newer, 1000) == (newer,)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("", 1000, key="a"), "needs an id"),
        (Rule("x" * 65, 1000, key="a"), "needs an id"),
        (Rule("r", 1000), "either"),
        (Rule("r", 1000, key="a", message_id="b"), "either"),
        (Rule("r", 1000, key="a" * (RULE_TEXT_MAX + 1)), "characters each"),
        (Rule("r", 0, key="a"), "24 hours"),
        (Rule("r", RULE_MS_MAX + 1, key="a"), "24 hours"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_with_a_sentence(rule: Rule, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        with_rule((), rule, 0)


def test_their_number_is_bounded() -> None:
    rules: tuple[Rule, ...] = ()
    for number in range(RULES_MAX):
        rules = with_rule(rules, Rule(f"r{number}", 1000, key="a"), 0)
    with pytest.raises(RuleError, match="already"):
        with_rule(rules, Rule("more", 1000, key="a"), 0)
    assert len(with_rule(rules, Rule("r3", 2000, key="b"), 0)) == RULES_MAX
    with pytest.raises(RuleError, match="at most"):
        parse_rules(write_rules([*rules, Rule("more", 1000, key="a")]))


@pytest.mark.parametrize("text", ["{", "[1]", '[{"id":"a"}]', '[{"id":"a","expires_at_ms":1}]', '["\ud800"]'])
def test_the_setting_takes_nothing_else(text: str) -> None:
    with pytest.raises(OptionError, match=r"tracing\.rules"):
        BROKER_OPTIONS["tracing.rules"].parse(text)


def test_two_rules_of_one_id_are_refused() -> None:
    with pytest.raises(RuleError, match="same id"):
        parse_rules(write_rules([KEYS, KEYS]))
