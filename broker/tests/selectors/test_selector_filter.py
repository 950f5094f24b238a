"""Tag expressions, what a record's properties are, and both as a group's filter."""

from __future__ import annotations

import pytest

from penstock.selectors.errors import SelectorError
from penstock.selectors.filtering import compile_filter
from penstock.selectors.limits import (
    EXPRESSION_CHARACTERS_MAX,
    PROPERTY_BYTES_MAX,
    TAG_CHARACTERS_MAX,
    TAGS_MAX,
)
from penstock.selectors.properties import properties_of
from penstock.selectors.tags import parse_tags

TAGGED = [
    ("paid", {"paid"}),
    ("paid || refunded", {"paid", "refunded"}),
    ("paid||refunded", {"paid", "refunded"}),
    ("  paid ||\trefunded  ", {"paid", "refunded"}),
    ("paid || paid", {"paid"}),
    ("Paid || paid", {"Paid", "paid"}),
    ("a* || -é/1", {"a*", "-é/1"}),
    ("*", None),
    (" * ", None),
    ("", None),
    ("  ", None),
]


@pytest.mark.parametrize(("text", "tags"), TAGGED)
def test_a_tag_expression_names_tags(text: str, tags: set[str] | None) -> None:
    assert parse_tags(text) == tags


MISTAKEN = [
    ("||", 1, "a tag is missing"),
    ("paid ||", 8, "a tag is missing"),
    ("|| paid", 1, "a tag is missing"),
    ("paid || || refunded", 8, "a tag is missing"),
    ("paid | refunded", 1, "a single | means nothing"),
    ("a || b|c", 6, "a single | means nothing"),
    ("a ||| b", 5, "a single | means nothing"),
    ("* || paid", 1, "* stands for every message"),
    ("paid || *", 9, "* stands for every message"),
    ("paid refunded", 1, "a tag has no spaces: write || between two tags"),
    ("a || " + "t" * (TAG_CHARACTERS_MAX + 1), 6, f"at most {TAG_CHARACTERS_MAX}"),
    ("||".join(f"t{number}" for number in range(TAGS_MAX + 1)), 491, f"more than {TAGS_MAX} tags"),
    ("a".ljust(EXPRESSION_CHARACTERS_MAX + 1), EXPRESSION_CHARACTERS_MAX + 1, "characters"),
]


@pytest.mark.parametrize(("text", "position", "reason"), MISTAKEN)
def test_a_wrong_tag_expression_is_refused_where_it_is_wrong(text: str, position: int, reason: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse_tags(text)
    assert reason in refused.value.reason
    assert refused.value.position == position


def test_as_many_tags_as_the_limit_are_read() -> None:
    tags = parse_tags("||".join(f"t{number}" for number in range(TAGS_MAX)))
    assert tags is not None
    assert len(tags) == TAGS_MAX


def test_a_records_properties_are_its_headers_and_what_the_broker_knows() -> None:
    headers = [
        ("color", b"red"),
        ("color", "grün".encode()),
        ("empty", b""),
        ("null", None),
        ("raw", b"\xff"),
        ("x", b"1"),
    ]
    names = {"color", "empty", "null", "raw", "KEYS", "JMSTimestamp", "TAGS"}
    assert properties_of(names, b"order-1", 1_700, headers) == {
        "color": "grün",
        "empty": "",
        "null": None,
        "raw": b"",
        "KEYS": "order-1",
        "JMSTimestamp": 1_700,
    }


def test_the_last_header_of_a_name_counts_even_without_value() -> None:
    assert properties_of({"a"}, None, 0, [("a", b"1"), ("a", None)]) == {"a": None}


def test_a_header_named_keys_is_the_keys_and_the_records_key_else() -> None:
    names = {"KEYS"}
    assert properties_of(names, b"key", 0, [("KEYS", b"one two")]) == {"KEYS": "one two"}
    assert properties_of(names, b"key", 0, []) == {"KEYS": "key"}
    assert properties_of(names, None, 0, []) == {"KEYS": None}
    assert properties_of(names, b"\x80", 0, []) == {"KEYS": b""}


def test_a_header_cannot_pretend_to_be_the_timestamp() -> None:
    assert properties_of({"JMSTimestamp"}, None, 5, [("JMSTimestamp", b"6")]) == {"JMSTimestamp": 5}


def test_a_long_header_is_there_and_like_nothing() -> None:
    fits, exceeds = b"a" * PROPERTY_BYTES_MAX, b"a" * (PROPERTY_BYTES_MAX + 1)
    wanted = compile_filter(sql="big LIKE 'a%' OR big = 1")
    assert wanted.matches(None, 0, [("big", fits)])
    assert not wanted.matches(None, 0, [("big", exceeds)])
    assert compile_filter(sql="big IS NOT NULL").matches(None, 0, [("big", exceeds)])


PAID = [("TAGS", b"paid"), ("amount", b"150")]
FILTERS = [
    (None, None, True),
    ("", "", True),
    ("*", None, True),
    ("paid", None, True),
    ("refunded || paid", None, True),
    ("refunded", None, False),
    ("Paid", None, False),
    (None, "amount > 100", True),
    (None, "amount > 200", False),
    (None, "vat > 10", False),
    (None, "NOT vat > 10", False),
    ("paid", "amount > 100", True),
    ("paid", "amount > 200", False),
    ("refunded", "amount > 100", False),
    ("*", "TAGS = 'paid' AND KEYS LIKE 'order-%' AND JMSTimestamp >= 1700", True),
]


@pytest.mark.parametrize(("tags", "sql", "wanted"), FILTERS)
def test_a_group_gets_what_both_expressions_want(tags: str | None, sql: str | None, wanted: bool) -> None:
    assert compile_filter(tags, sql).matches(b"order-7", 1_700, PAID) is wanted


def test_a_message_without_a_tag_has_none_of_them() -> None:
    assert not compile_filter(tags="paid").matches(None, 0, [("TAGS", None)])
    assert not compile_filter(tags="paid").matches(None, 0, [("TAGS", b"\xff")])
    assert not compile_filter(tags="paid").matches(None, 0, [])
    assert compile_filter(tags="*").matches(None, 0, [])


def test_a_filter_that_wants_everything_says_so() -> None:
    assert compile_filter().wants_everything
    assert compile_filter("*", " ").wants_everything
    assert not compile_filter("a").wants_everything
    assert not compile_filter("*", "TRUE").wants_everything


@pytest.mark.parametrize(
    ("tags", "sql", "said"),
    [
        ("a |", None, "tags, at character 1: a single | means nothing: write || between two tags"),
        ("a", "b =", "sql, at character 4: the end of the expression stands where an operand belongs"),
    ],
)
def test_what_is_wrong_with_a_filter_names_the_field(tags: str | None, sql: str | None, said: str) -> None:
    with pytest.raises(SelectorError) as refused:
        compile_filter(tags, sql)
    assert str(refused.value).startswith(said)
