"""What is refused, at which character, and what is said to write instead."""

from __future__ import annotations

import pytest

from penstock.selectors.errors import SelectorError
from penstock.selectors.filtering import compile_selector
from penstock.selectors.limits import (
    EXPRESSION_CHARACTERS_MAX,
    IN_LIST_MAX,
    LIKES_MAX,
    NAME_CHARACTERS_MAX,
    NODES_MAX,
    PATTERN_CHARACTERS_MAX,
)

REFUSED = [
    # Nothing where something belongs.
    ("a =", 4, "the end of the expression stands where an operand belongs"),
    ("= 5", 1, "= stands where an operand belongs"),
    ("a > 5 AND", 10, "the end of the expression stands where an operand belongs"),
    ("a > 5 OR OR b", 10, "OR stands where an operand belongs"),
    ("()", 2, ") stands where an operand belongs"),
    ("NOT", 4, "the end"),
    ("a NOT", 6, "write NOT BETWEEN, NOT IN or NOT LIKE"),
    ("a NOT = 5", 7, "write NOT BETWEEN, NOT IN or NOT LIKE"),
    # Too much.
    ("a = 1 b", 7, "the identifier b comes after the end of a condition"),
    ("a = 1 = 2", 7, "= follows a comparison: join two comparisons with AND"),
    ("1 < a < 5", 7, "< follows a comparison"),
    ("a = 1)", 6, "no parenthesis is open"),
    ("(a = 1", 7, "the end of the expression stands where ) belongs: one is open since character 1"),
    ("a AND (b", 9, "one is open since character 7"),
    ("(a, b)", 3, ", stands where ) belongs"),
    # Not a condition.
    ("5", 1, "a number stands where a condition belongs"),
    ("'a'", 1, "a string stands where a condition belongs"),
    ("a + 1", 1, "a number stands where a condition belongs"),
    ("TRUE AND 5", 10, "a number stands where a condition belongs: AND joins conditions"),
    ("'a' OR TRUE", 1, "a string stands where a condition belongs: OR joins conditions"),
    ("NOT 5", 5, "a number stands where a condition belongs: NOT turns a condition round"),
    ("a = 1 AND -b", 11, "a number stands where a condition belongs"),
    # 3.8.1.1: strings and booleans have = and <> only; like is compared with like.
    ("a > 'x'", 5, "a string stands where a number belongs: > compares numbers"),
    ("'x' <= a", 1, "a string stands where a number belongs"),
    ("a < TRUE", 5, "a condition stands where a number belongs"),
    ("a = 1 AND 'x' = 5", 15, "a string is never like a number"),
    ("TRUE <> 'x'", 6, "a condition is never like a string"),
    ("a + 1 = 'x'", 7, "a number is never like a string"),
    ("a + 'x' = 5", 5, "a string stands where a number belongs: + takes numbers"),
    ("'x' * 5 = 5", 1, "a string stands where a number belongs: * takes numbers"),
    ("(a > 1) + 5 = 5", 1, "a condition stands where a number belongs"),
    ("-'x' = 5", 2, "a string stands where a number belongs"),
    ("a BETWEEN 'a' AND 'b'", 11, "a string stands where a number belongs: BETWEEN compares numbers"),
    ("a BETWEEN 1 AND 'b'", 17, "a string stands where a number belongs"),
    ("'a' BETWEEN 1 AND 2", 1, "a string stands where a number belongs"),
    ("a BETWEEN 1 OR 2", 13, "OR stands where AND belongs: write BETWEEN 1 AND 10"),
    # NULL.
    ("a = NULL", 5, "NULL is compared with nothing: write name IS NULL"),
    ("NULL IS NULL", 1, "NULL is compared with nothing"),
    ("a IS 5", 6, "5 stands where NULL belongs: write IS NULL or IS NOT NULL"),
    ("a IS NOT TRUE", 10, "TRUE stands where NULL belongs"),
    ("a + 1 IS NULL", 1, "IS follows an identifier alone"),
    ("'a' IS NULL", 1, "IS follows an identifier alone: write name IS"),
    # IN and LIKE.
    ("a IN ()", 7, ") stands where a string belongs: IN takes strings"),
    ("a IN (1, 2)", 7, "1 stands where a string belongs"),
    ("a IN ('x', b)", 12, "the identifier b stands where a string belongs"),
    ("a IN 'x'", 6, "the string 'x' stands where ( belongs"),
    ("a IN ('x'", 10, "the end of the expression stands where ) belongs"),
    ("a IN ('x',)", 11, ") stands where a string belongs"),
    ("5 IN ('x')", 1, "IN follows an identifier alone"),
    ("'x' LIKE 'x'", 1, "LIKE follows an identifier alone"),
    ("a LIKE b", 8, "the identifier b stands where a string belongs: write LIKE 'a%'"),
    ("a LIKE 'x' ESCAPE '!!'", 19, "what escapes is one character"),
    ("a LIKE 'x' ESCAPE ''", 19, "what escapes is one character"),
    ("a LIKE 'x!y' ESCAPE '!'", 8, "! escapes %, _ and itself: it stands before y"),
    ("a LIKE 'x!' ESCAPE '!'", 8, "! escapes %, _ and itself: it stands before the end"),
    # Literals.
    ("a = 'x", 5, "a string begins here and does not end"),
    ("a = 'x''", 5, "a string begins here and does not end"),
    ('"a = 1', 1, "a name begins here and does not end"),
    ('"" = 1', 1, "a name has at least one character"),
    ("a = 08", 5, "a number that begins with 0 is octal"),
    ("a = 5x", 6, "'x' is no part of a number"),
    ("a = 0x", 6, "'x' is no part of a number"),
    ("a = 1.2.3", 8, "'.' is no part of a number"),
    ("a = 1e", 6, "'e' is no part of a number"),
    ("a = 1_000", 6, "'_' is no part of a number"),
    ("a = 9223372036854775808", 5, "exact numbers are -9223372036854775808 to 9223372036854775807"),
    ("a = -9223372036854775809", 6, "exact numbers are"),
    ("a = -(9223372036854775808)", 7, "exact numbers are"),
    ("a = 0xFFFFFFFFFFFFFFFF", 5, "exact numbers are"),
    ("a = 1e999", 5, "1e999 is beyond what a double holds"),
    ("a = 1e-999", 5, "1e-999 is beyond what a double holds"),
    # Other languages' operators.
    ("a != 5", 3, "!= is no operator: write <>"),
    ("a == 5", 3, "== is no operator: write ="),
    ("a && b", 3, "&& is no operator: write AND"),
    ("a || b", 3, "|| is no operator: write OR"),
    ("!a", 1, "! is no operator: write NOT"),
    ("a % 2 = 0", 3, "% is no operator: there is no remainder"),
    ("a = 1;", 6, "; is no operator"),
    ("`a` = 1", 1, "` is no operator: write names in double quotes"),
    ("a.b = 1", 2, "'.' means nothing here"),
    ("a = 1 /* why */", 8, "* stands where an operand belongs"),
    ("a\u200b = 1", 2, "means nothing here"),
    ("a\u00a0= 1", 2, "means nothing here"),
    # 3.8.1.1: names that begin with JMS are the specification's.
    ("JMSPriority > 4", 1, "JMSPriority is reserved and not offered"),
    ("a AND JMSXDeliveryCount > 1", 7, "JMSXDeliveryCount is reserved"),
    ('"JMS_x" = 1', 1, "JMS_x is reserved"),
    ("JMSExpiration IS NULL", 1, "JMSExpiration is reserved"),
]


@pytest.mark.parametrize(("expression", "position", "reason"), REFUSED)
def test_it_is_refused_where_it_is_wrong(expression: str, position: int, reason: str) -> None:
    with pytest.raises(SelectorError) as refused:
        compile_selector(expression)
    assert reason in refused.value.reason
    assert refused.value.position == position
    assert str(refused.value) == f"at character {position}: {refused.value.reason}"


def test_the_length_is_bounded() -> None:
    fits = "a = 1".ljust(EXPRESSION_CHARACTERS_MAX)
    assert compile_selector(fits).matches({"a": "1"})
    with pytest.raises(SelectorError, match=f"{EXPRESSION_CHARACTERS_MAX + 1} characters") as refused:
        compile_selector(fits + " ")
    assert refused.value.position == EXPRESSION_CHARACTERS_MAX + 1


def test_the_number_of_nodes_is_bounded() -> None:
    # A chain has no depth: an operand and an operator each, but for the first.
    fits = "a" + "+1" * ((NODES_MAX - 2) // 2 - 1) + "=9"
    assert compile_selector(fits).evaluate({"a": "1"}) is False
    with pytest.raises(SelectorError, match=f"more than {NODES_MAX} literals, identifiers and operators"):
        compile_selector("a" + "+1" * (NODES_MAX // 2) + "=9")


def test_the_list_after_in_is_bounded() -> None:
    fits = ",".join(f"'{number}'" for number in range(IN_LIST_MAX))
    assert compile_selector(f"a IN ({fits})").matches({"a": "7"})
    with pytest.raises(SelectorError, match=f"at most {IN_LIST_MAX} strings"):
        compile_selector(f"a IN ({fits}, 'x')")


def test_patterns_and_names_are_bounded() -> None:
    pattern = "%" * PATTERN_CHARACTERS_MAX
    assert compile_selector(f"a LIKE '{pattern}'").matches({"a": "x"})
    with pytest.raises(SelectorError, match=f"at most {PATTERN_CHARACTERS_MAX}"):
        compile_selector(f"a LIKE '{pattern}%'")
    likes = " OR ".join(["a LIKE 'b'"] * LIKES_MAX)
    assert not compile_selector(likes).matches({"a": "x"})
    with pytest.raises(SelectorError, match=f"more than {LIKES_MAX} LIKEs"):
        compile_selector(likes + " OR a LIKE 'c'")
    name = "n" * NAME_CHARACTERS_MAX
    assert compile_selector(f"{name} = 1").matches({name: "1"})
    for written in (f"{name}n = 1", f'"{name}n" = 1'):
        with pytest.raises(SelectorError, match=f"at most {NAME_CHARACTERS_MAX}"):
            compile_selector(written)
