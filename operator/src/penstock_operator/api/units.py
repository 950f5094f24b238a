"""Durations and quantities as Kubernetes users write them: `30s`, `7d`, `10Gi`.

Kubernetes parses quantities in Go; here the same notation becomes whole bytes or milliseconds, with errors that
say what a right value looks like.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|m)?$"
NUMBER_LENGTH_MAX: Final = 32  # a longer number is no size or time that anybody means

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|m)?")
_FACTORS: Final[dict[str | None, Fraction]] = {
    None: Fraction(1),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def duration_ms(text: str) -> int:
    """Milliseconds of a Go-style duration such as `1h30m` or `250ms`; days (`7d`) are accepted too.

    Raises ValueError with a sentence when the text is not one.
    """
    if len(text) > NUMBER_LENGTH_MAX or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(
            f"{text[:NUMBER_LENGTH_MAX]!r} is not a duration: write a number and a unit, such as 50ms, 30s, 5m or 7d"
        )
    total = sum(
        (Fraction(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text)), Fraction(0)
    )
    return int(total)


def quantity_bytes(value: int | str) -> int:
    """Whole bytes of a Kubernetes quantity such as `10Gi`, `1Mi` or `1048576`, rounded up as Kubernetes does.

    Raises ValueError with a sentence when the value is not one.
    """
    if isinstance(value, bool):
        raise ValueError("true or false is not a size: write a number such as 10Gi")
    text = str(value)
    match = _QUANTITY.fullmatch(text) if len(text) <= NUMBER_LENGTH_MAX else None
    if match is None:
        raise ValueError(
            f"{text[:NUMBER_LENGTH_MAX]!r} is not a size: write a number such as 10Gi, 512Mi or 1048576"
        )
    exact = Fraction(match[1]) * _FACTORS[match[2]]
    return math.ceil(exact)


def quantity_exact(value: int | str) -> Fraction:
    """The exact number a Kubernetes quantity stands for, to compare `500m` with `0.5`. Raises ValueError."""
    match = _QUANTITY.fullmatch(str(value)) if len(str(value)) <= NUMBER_LENGTH_MAX else None
    if match is None:
        raise ValueError(f"{str(value)[:NUMBER_LENGTH_MAX]!r} is not a quantity")
    return Fraction(match[1]) * _FACTORS[match[2]]
