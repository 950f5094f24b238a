"""Times as people write them on a command line: a moment with its zone, or how long ago. Pure: the caller says what time it is."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART: Final = re.compile(r"(\d{1,12})(ms|d|h|m|s)", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def duration_ms(text: str) -> int | None:
    """Milliseconds of a duration such as 90s, 15m, 2h or 1d12h; None where it is not written like one."""
    if _DURATION.fullmatch(text) is None:
        return None
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))


def since_ms(text: str, now_ms: int) -> int:
    """Milliseconds since the epoch of a moment, or of so long before `now_ms`; never before 1970. Raises ValueError with a sentence."""
    duration = duration_ms(text)
    if duration is not None:
        return max(now_ms - duration, 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither a time such as 2026-11-21T08:00:00Z nor how long ago, such as 90s, 15m, 2h or 1d12h"
        ) from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} is a time without a zone; end it with Z for UTC")
    return max(int(moment.timestamp() * 1000), 0)
