"""A tree becomes a closure that is asked about one message after the other.

Every node is compiled once into a function of a message's properties: conditions answer True, False or None (unknown),
arithmetic a number or None. The tree was checked by the parser, so a closure never raises, whatever the properties are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from penstock.selectors.lexer import LONG_MAX, LONG_MIN
from penstock.selectors.like import compile_pattern
from penstock.selectors.tree import (
    And,
    Arithmetic,
    Between,
    Comparison,
    In,
    IsNull,
    Kind,
    Like,
    Node,
    Not,
    Number,
    Or,
    Property,
    Sign,
    Text,
    Truth,
    kind_of,
)
from penstock.selectors.values import UNLIKE, Numeric, Unlike, Value, alike, as_boolean, as_number, as_text

Properties = Mapping[str, Value]
Condition = Callable[[Properties], bool | None]
Arithmetics = Callable[[Properties], Numeric | None]
_Operand = Callable[[Properties], Any]

_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_READ_AS: dict[Kind, Callable[[Value], Any]] = {
    Kind.NUMBER: as_number,
    Kind.STRING: as_text,
    Kind.CONDITION: as_boolean,
}


def compile_condition(node: Node) -> Condition:
    """What the condition says of a message: three-valued (Jakarta Messaging 3.1, 3.8.1.2)."""
    match node:
        case And(parts):
            return _joined([compile_condition(part) for part in parts], decisive=False)
        case Or(parts):
            return _joined([compile_condition(part) for part in parts], decisive=True)
        case Not(operand):
            return _not(compile_condition(operand))
        case Comparison(sign, left, right):
            return _comparison(sign, left, right)
        case Between(operand, low, high, negated):
            # By definition, 3.8.1.1: so what is not alike is false either way.
            if negated:
                parts = (Comparison("<", operand, low), Comparison(">", operand, high))
                return _joined([compile_condition(part) for part in parts], decisive=True)
            parts = (Comparison(">=", operand, low), Comparison("<=", operand, high))
            return _joined([compile_condition(part) for part in parts], decisive=False)
        case Truth(value):
            return lambda properties: value
        case Property(name):
            return _flag(name)
        case _:
            return _text_test(node)


def _text_test(node: Node) -> Condition:
    """IN, LIKE and IS NULL: tests of one property."""
    match node:
        case IsNull(name, negated):
            return lambda properties: (properties.get(name) is None) is not negated
        case In(name, values, negated):
            return _test(name, frozenset(values).__contains__, negated)
        case Like(name, pattern, escape, negated):
            return _test(name, compile_pattern(pattern, escape), negated)
        case _:
            raise AssertionError(f"{node!r} is no condition")


def _joined(parts: list[Condition], decisive: bool) -> Condition:
    """AND (False decides) or OR (True decides): any part that decides, else unknown if one is, else the other."""

    def evaluate(properties: Properties) -> bool | None:
        unknown = False
        for part in parts:
            value = part(properties)
            if value is decisive:
                return decisive
            if value is None:
                unknown = True
        return None if unknown else not decisive

    return evaluate


def _not(condition: Condition) -> Condition:
    def evaluate(properties: Properties) -> bool | None:
        value = condition(properties)
        return None if value is None else not value

    return evaluate


def _flag(name: str) -> Condition:
    """A property that stands for a condition: the same as comparing it with TRUE."""

    def evaluate(properties: Properties) -> bool | None:
        value = as_boolean(properties.get(name))
        return False if value is UNLIKE else value

    return evaluate


def _test(name: str, test: Callable[[str], bool], negated: bool) -> Condition:
    """A test of a string; what is no string does not pass it, and NOT turns that round."""

    def evaluate(properties: Properties) -> bool | None:
        value = properties.get(name)
        if value is None:
            return None
        return (isinstance(value, str) and test(value)) is not negated

    return evaluate


def _comparison(sign: str, left: Node, right: Node) -> Condition:
    relation = _RELATIONS[sign]
    if isinstance(left, Property) and isinstance(right, Property):
        return _two_properties(relation, left.name, right.name, ordered=sign not in ("=", "<>"))
    kind = kind_of(right if isinstance(left, Property) else left)
    if kind is Kind.NUMBER:
        relation = _promoted(relation)
    return _compared(relation, _operand(left, kind), _operand(right, kind))


def _compared(relation: Callable[[Any, Any], bool], left: _Operand, right: _Operand) -> Condition:
    def evaluate(properties: Properties) -> bool | None:
        one = left(properties)
        if one is None:
            return None
        other = right(properties)
        if other is None:
            return None
        return one is not UNLIKE and other is not UNLIKE and relation(one, other)

    return evaluate


def _two_properties(relation: Callable[[Any, Any], bool], left: str, right: str, ordered: bool) -> Condition:
    promoted = _promoted(relation)

    def evaluate(properties: Properties) -> bool | None:
        one, other = properties.get(left), properties.get(right)
        if one is None or other is None:
            return None
        pair = alike(one, other, ordered)
        return pair is not None and promoted(*pair)

    return evaluate


def _promoted(relation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Java's numeric promotion: beside a double, an exact number is one too (JLS 5.6.2). Others compare as they are."""

    def compare(one: Any, other: Any) -> bool:
        if isinstance(one, float):
            return relation(one, float(other))
        return relation(float(one), other) if isinstance(other, float) else relation(one, other)

    return compare


def _operand(node: Node, kind: Kind) -> _Operand:
    """One side of a comparison, as that kind."""
    match node:
        case Property(name):
            read = _READ_AS[kind]
            return lambda properties: read(properties.get(name))
        case Text(value):
            return lambda properties: value
        case _:
            return compile_number(node) if kind is Kind.NUMBER else compile_condition(node)


def compile_number(node: Node) -> Arithmetics:
    """The arithmetic's value; None for NULL, which anything that is no number is here too."""
    match node:
        case Number(value):
            return lambda properties: value
        case Property(name):
            return lambda properties: _number_or_null(as_number(properties.get(name)))
        case Sign(sign, operand):
            return _signed(sign, compile_number(operand))
        case Arithmetic(first, rest):
            return _chain(
                compile_number(first), [(_STEPS[sign], compile_number(part)) for sign, part in rest]
            )
        case _:
            raise AssertionError(f"{node!r} is no number")


def _number_or_null(value: Numeric | Unlike | None) -> Numeric | None:
    return None if value is UNLIKE else value


def _signed(sign: str, operand: Arithmetics) -> Arithmetics:
    if sign == "+":
        return operand

    def evaluate(properties: Properties) -> Numeric | None:
        value = operand(properties)
        return None if value is None else within_range(-value)

    return evaluate


def _chain(
    first: Arithmetics, rest: list[tuple[Callable[[Numeric, Numeric], Numeric | None], Arithmetics]]
) -> Arithmetics:
    def evaluate(properties: Properties) -> Numeric | None:
        value = first(properties)
        for step, operand in rest:
            other = operand(properties)
            if value is None or other is None:
                return None
            value = step(value, other)
        return value

    return evaluate


def within_range(value: Numeric) -> Numeric | None:
    """The value, unless it is beyond 64 bits or the doubles."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if LONG_MIN <= value <= LONG_MAX else None


def add(one: Numeric, other: Numeric) -> Numeric | None:
    """one + other."""
    return within_range(one + other)


def subtract(one: Numeric, other: Numeric) -> Numeric | None:
    """one - other."""
    return within_range(one - other)


def multiply(one: Numeric, other: Numeric) -> Numeric | None:
    """one * other."""
    return within_range(one * other)


def divide(one: Numeric, other: Numeric) -> Numeric | None:
    """one / other: without the rest for two exact numbers, as Java divides them; None by zero."""
    if other == 0:
        return None
    if isinstance(one, float) or isinstance(other, float):
        return within_range(one / other)
    quotient = abs(one) // abs(other)
    return within_range(quotient if (one < 0) is (other < 0) else -quotient)


_STEPS: dict[str, Callable[[Numeric, Numeric], Numeric | None]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
}
