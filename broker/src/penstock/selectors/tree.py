"""What a selector says, as a tree, and the tree as a selector again.

Parts know nothing of where they stood: whatever needs a position is refused while parsing. Chains (AND, OR, sums,
products) are one node with many parts, so the depth of a tree is the depth of its parentheses, NOTs and signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import msgspec

from penstock.selectors.lexer import KEYWORDS, is_identifier


class Kind(Enum):
    """What an expression is, as far as it is known without a message; the value is how it is called in sentences."""

    CONDITION = "a condition"
    NUMBER = "a number"
    STRING = "a string"
    ANY = "an identifier"


class Number(msgspec.Struct, frozen=True):
    """A numeral, with its sign where one stands directly before it."""

    value: int | float


class Text(msgspec.Struct, frozen=True):
    """A string literal."""

    value: str


class Truth(msgspec.Struct, frozen=True):
    """TRUE or FALSE."""

    value: bool


class Property(msgspec.Struct, frozen=True):
    """An identifier."""

    name: str


class Sign(msgspec.Struct, frozen=True):
    """+ or - before something that is no numeral."""

    operator: str
    operand: Node


class Arithmetic(msgspec.Struct, frozen=True):
    """A chain of + and -, or of * and /, from left to right: what comes first, then operators with what follows them."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


class Comparison(msgspec.Struct, frozen=True):
    """Two operands and one of = <> < > <= >=."""

    operator: str
    left: Node
    right: Node


class Between(msgspec.Struct, frozen=True):
    """operand [NOT] BETWEEN low AND high."""

    operand: Node
    low: Node
    high: Node
    negated: bool


class In(msgspec.Struct, frozen=True):
    """name [NOT] IN (values)."""

    name: str
    values: tuple[str, ...]
    negated: bool


class Like(msgspec.Struct, frozen=True):
    """name [NOT] LIKE pattern [ESCAPE escape]."""

    name: str
    pattern: str
    escape: str | None
    negated: bool


class IsNull(msgspec.Struct, frozen=True):
    """name IS [NOT] NULL."""

    name: str
    negated: bool


class Not(msgspec.Struct, frozen=True):
    """NOT operand."""

    operand: Node


class And(msgspec.Struct, frozen=True):
    """Conditions joined by AND, two or more."""

    parts: tuple[Node, ...]


class Or(msgspec.Struct, frozen=True):
    """Conditions joined by OR, two or more."""

    parts: tuple[Node, ...]


Node = (
    Number
    | Text
    | Truth
    | Property
    | Sign
    | Arithmetic
    | Comparison
    | Between
    | In
    | Like
    | IsNull
    | Not
    | And
    | Or
)

_KINDS: dict[type[Node], Kind] = {
    Number: Kind.NUMBER,
    Sign: Kind.NUMBER,
    Arithmetic: Kind.NUMBER,
    Text: Kind.STRING,
    Property: Kind.ANY,
}

_LOOSENESS = {Or: 1, And: 2, Not: 3, Comparison: 4, Between: 4, In: 4, Like: 4, IsNull: 4}
_SUM, _PRODUCT, _SIGN, _ATOM = 5, 6, 7, 8


def kind_of(node: Node) -> Kind:
    """What the node is, without a message."""
    return _KINDS.get(type(node), Kind.CONDITION)


def names_in(node: Node) -> Iterator[str]:
    """The identifiers in it, in the order in which they stand there."""
    match node:
        case Property(name) | In(name) | Like(name) | IsNull(name):
            yield name
        case Sign(_, operand) | Not(operand):
            yield from names_in(operand)
        case Arithmetic(first, rest):
            yield from names_in(first)
            for _, part in rest:
                yield from names_in(part)
        case Comparison(_, left, right):
            yield from names_in(left)
            yield from names_in(right)
        case Between(operand, low, high):
            for part in (operand, low, high):
                yield from names_in(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from names_in(part)
        case Number() | Text() | Truth():
            return


def write(node: Node) -> str:
    """A selector that is parsed into this tree, with as few parentheses as possible."""
    match node:
        case Number(value):
            return repr(value)
        case Text(value):
            return quoted(value)
        case Truth(value):
            return "TRUE" if value else "FALSE"
        case Property(name):
            return write_name(name)
        case Sign(operator, operand):
            return operator + (
                f"({write(operand)})" if isinstance(operand, Number) else _within(operand, _SIGN)
            )
        case Arithmetic(first, rest):
            tightness = _tightness(node) + 1
            return _within(first, tightness) + "".join(
                f" {sign} {_within(part, tightness)}" for sign, part in rest
            )
        case Comparison(operator, left, right):
            return f"{_within(left, _SUM)} {operator} {_within(right, _SUM)}"
        case Between(operand, low, high, negated):
            words = "NOT BETWEEN" if negated else "BETWEEN"
            return f"{_within(operand, _SUM)} {words} {_within(low, _SUM)} AND {_within(high, _SUM)}"
        case _:
            return _write_test(node)


def _write_test(node: Node) -> str:
    """Conditions that are made of names and strings, and those that join conditions."""
    match node:
        case In(name, values, negated):
            return f"{write_name(name)} {'NOT IN' if negated else 'IN'} ({', '.join(map(quoted, values))})"
        case Like(name, pattern, escape, negated):
            ending = "" if escape is None else f" ESCAPE {quoted(escape)}"
            return f"{write_name(name)} {'NOT LIKE' if negated else 'LIKE'} {quoted(pattern)}{ending}"
        case IsNull(name, negated):
            return f"{write_name(name)} IS {'NOT NULL' if negated else 'NULL'}"
        case Not(operand):
            return f"NOT {_within(operand, _LOOSENESS[Not])}"
        case And(parts):
            return " AND ".join(_within(part, _LOOSENESS[And] + 1) for part in parts)
        case Or(parts):
            return " OR ".join(_within(part, _LOOSENESS[Or] + 1) for part in parts)
        case _:
            raise AssertionError(f"{node!r} is no part of a selector")


def _within(node: Node, tightness: int) -> str:
    """The node as a part of something that binds so tightly."""
    return write(node) if _tightness(node) >= tightness else f"({write(node)})"


def _tightness(node: Node) -> int:
    if isinstance(node, Arithmetic):
        return _SUM if node.rest[0][0] in "+-" else _PRODUCT
    if isinstance(node, Sign):
        return _SIGN
    return _LOOSENESS.get(type(node), _ATOM)


def quoted(text: str) -> str:
    """The text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def write_name(name: str) -> str:
    """The name as an identifier, in double quotes where it could not be one otherwise."""
    if is_identifier(name) and not (name.isascii() and name.upper() in KEYWORDS):
        return name
    return '"' + name.replace('"', '""') + '"'
