"""What a property can be, and how it takes the type of what it is compared with.

Kafka's headers are bytes; those that are UTF-8 come here as text without a type, like RocketMQ's properties, which are
all strings. A text is a number when it looks like Java's `Long` and `Double` would read it: a sign, decimal digits, a
point, an exponent, nothing else around them. It is exact without point and exponent and within 64 bits, else
approximate. It is a boolean when it is `true` or `false`, in any case. Bytes that are no text are there (IS NOT NULL) and
like nothing.
"""

from __future__ import annotations

import math
import re
from enum import Enum

from penstock.selectors.lexer import LONG_MAX, LONG_MIN
from penstock.selectors.limits import NUMBER_CHARACTERS_MAX

Value = str | int | float | bool | bytes | None
"""A property: text without a type, a number, a boolean, bytes that are no text, NULL."""

Numeric = int | float


class Unlike(Enum):
    """`UNLIKE` is what a property becomes that cannot be read as the wanted type: comparing it is false."""

    UNLIKE = 0


UNLIKE = Unlike.UNLIKE

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")


def as_number(value: Value) -> Numeric | Unlike | None:
    """The property as a number; NULL stays NULL."""
    if value is None:
        return None
    if isinstance(value, str):
        return number_in(value)
    if isinstance(value, bool | bytes):
        return UNLIKE
    if isinstance(value, int):
        return value if LONG_MIN <= value <= LONG_MAX else UNLIKE
    return value if math.isfinite(value) else UNLIKE


def number_in(text: str) -> Numeric | Unlike:
    """The number that a text is."""
    found = _NUMBER.fullmatch(text) if len(text) <= NUMBER_CHARACTERS_MAX else None
    if found is None:
        return UNLIKE
    if not (found[1] or found[2] or found[3]):
        exact = int(text)
        if LONG_MIN <= exact <= LONG_MAX:
            return exact
    approximate = float(text)
    return approximate if math.isfinite(approximate) else UNLIKE


def as_boolean(value: Value) -> bool | Unlike | None:
    """The property as a boolean; NULL stays NULL."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= len("false"):
        return {"true": True, "false": False}.get(value.lower(), UNLIKE)
    return UNLIKE


def as_text(value: Value) -> str | Unlike | None:
    """The property as a string; NULL stays NULL. Numbers and booleans that the broker knows are no strings."""
    return value if value is None or isinstance(value, str) else UNLIKE


def alike(left: Value, right: Value, ordered: bool) -> tuple[Numeric, Numeric] | tuple[str, str] | None:
    """Two properties as two of one type: strings, or where one has a type, that; numbers where they are to be `ordered`.
    None if they are not alike. Neither is NULL."""
    if isinstance(left, str) and isinstance(right, str) and not ordered:
        return left, right
    if isinstance(left, bool) or isinstance(right, bool):
        one, other = as_boolean(left), as_boolean(right)
        return None if ordered or not isinstance(one, bool) or not isinstance(other, bool) else (one, other)
    first, second = as_number(left), as_number(right)
    if first is None or first is UNLIKE or second is None or second is UNLIKE:
        return None
    return first, second
