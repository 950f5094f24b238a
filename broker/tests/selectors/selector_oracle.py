"""A selector's tree, judged plainly: the rules of the package's docstring one by one, without compiling anything.

It shares no code with the compiler: texts are read with Python's own conversions behind a check of their characters,
patterns are matched by trying every split, and the logic is Kleene's minimum and maximum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache

from penstock.selectors.tree import (
    And,
    Arithmetic,
    Between,
    Comparison,
    In,
    IsNull,
    Like,
    Node,
    Not,
    Number,
    Or,
    Property,
    Sign,
    Text,
    Truth,
)
from penstock.selectors.values import Value

_FALSE, _UNKNOWN, _TRUE = 0, 1, 2
_DIGITS = set("0123456789")


def judge(node: Node, message: Mapping[str, Value]) -> bool | None:
    """What the condition says of the message."""
    return {_FALSE: False, _UNKNOWN: None, _TRUE: True}[_truth(node, message)]


def _truth(node: Node, message: Mapping[str, Value]) -> int:
    if isinstance(node, And):
        return min(_truth(part, message) for part in node.parts)
    if isinstance(node, Or):
        return max(_truth(part, message) for part in node.parts)
    if isinstance(node, Not):
        return _TRUE - _truth(node.operand, message)
    if isinstance(node, Truth):
        return _TRUE if node.value else _FALSE
    if isinstance(node, Property):
        return _compare("=", node, Truth(True), message)
    if isinstance(node, Comparison):
        return _compare(node.operator, node.left, node.right, message)
    if isinstance(node, Between):
        signs = ("<", ">") if node.negated else (">=", "<=")
        low = _compare(signs[0], node.operand, node.low, message)
        high = _compare(signs[1], node.operand, node.high, message)
        return max(low, high) if node.negated else min(low, high)
    value = message.get(node.name)  # type: ignore[union-attr]
    if isinstance(node, IsNull):
        return _TRUE if (value is None) != node.negated else _FALSE
    if value is None:
        return _UNKNOWN
    if isinstance(node, In):
        holds = any(isinstance(value, str) and value == wanted for wanted in node.values)
    else:
        assert isinstance(node, Like)
        holds = isinstance(value, str) and fits(value, node.pattern, node.escape)
    return _TRUE if holds != node.negated else _FALSE


def _compare(sign: str, left: Node, right: Node, message: Mapping[str, Value]) -> int:
    one, other = _side(left, message), _side(right, message)
    if one is None or other is None:
        return _UNKNOWN
    equal = sign in ("=", "<>")
    if isinstance(left, Property) and isinstance(right, Property):
        if isinstance(one, bool) or isinstance(other, bool):
            kind = "boolean"
        elif isinstance(one, str) and isinstance(other, str) and equal:
            kind = "string"
        else:
            kind = "number"
    else:
        typed = one if isinstance(right, Property) else other
        kind = "boolean" if isinstance(typed, bool) else "string" if isinstance(typed, str) else "number"
    pair = [_converted(value, kind) for value in (one, other)]
    if None in pair or (kind != "number" and not equal):
        return _FALSE
    if any(isinstance(value, float) for value in pair):
        pair = [float(value) for value in pair]  # type: ignore[arg-type]
    holds = {
        "=": lambda a, b: a == b,
        "<>": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
        "<=": lambda a, b: a <= b,
        ">=": lambda a, b: a >= b,
    }[sign](*pair)
    return _TRUE if holds else _FALSE


def _side(node: Node, message: Mapping[str, Value]) -> Value:
    if isinstance(node, Property):
        return message.get(node.name)
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Number | Sign | Arithmetic):
        return _number(node, message)
    truth = _truth(node, message)
    return None if truth == _UNKNOWN else truth == _TRUE


def _converted(value: Value, kind: str) -> Value:
    """None where it cannot be read as that."""
    if kind == "string":
        return value if isinstance(value, str) else None
    if kind == "boolean":
        text = value.lower() if isinstance(value, str) else value
        return (
            {"true": True, "false": False, True: True, False: False}.get(text)
            if not _is_number(text)
            else None
        )
    if isinstance(value, str):
        return read_number(value)
    return value if _is_number(value) and _held(value) is not None else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_number(text: str) -> int | float | None:
    """A text of up to 64 ASCII characters that Python reads as a decimal number, and that is finite."""
    if len(text) > 64 or not set(text) <= _DIGITS | set("+-.eE") or not text:
        return None
    try:
        exact = int(text)
        if -(2**63) <= exact < 2**63:
            return exact
    except ValueError:
        pass
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def _number(node: Node, message: Mapping[str, Value]) -> int | float | None:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Property):
        return _converted(message.get(node.name), "number")  # type: ignore[return-value]
    if isinstance(node, Sign):
        operand = _number(node.operand, message)
        return None if operand is None else operand if node.operator == "+" else _held(-operand)
    assert isinstance(node, Arithmetic)
    value = _number(node.first, message)
    for sign, part in node.rest:
        other = _number(part, message)
        if value is None or other is None or (sign == "/" and other == 0):
            return None
        if isinstance(value, float) or isinstance(other, float):
            value, other = float(value), float(other)
        if sign == "/":
            value = _held(value / other if isinstance(value, float) else _quotient(value, other))
        else:
            value = _held({"+": value + other, "-": value - other, "*": value * other}[sign])
    return value


def _quotient(one: int, other: int) -> int:
    exact = Fraction(one, other)
    return math.floor(exact) if exact >= 0 else math.ceil(exact)


def _held(value: float) -> int | float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -(2**63) <= value < 2**63 else None


def fits(text: str, pattern: str, escape: str | None) -> bool:
    """LIKE, by trying."""

    @cache
    def tried(at: int, of: int) -> bool:
        if of == len(pattern):
            return at == len(text)
        character = pattern[of]
        if character == escape:
            return at < len(text) and text[at] == pattern[of + 1] and tried(at + 1, of + 2)
        if character == "%":
            return tried(at, of + 1) or (at < len(text) and tried(at + 1, of))
        return at < len(text) and character in ("_", text[at]) and tried(at + 1, of + 1)

    return tried(0, 0)
