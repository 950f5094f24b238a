"""Settings as data: name, type, default, bounds, meaning. One table for the broker's, one for a topic's.

Names are Kafka's where Kafka has the setting. Values are kept as strings, the way they travel, and parsed once here;
inner code receives the parsed value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Value = bool | int | float | str


class OptionError(ValueError):
    """A name or value that cannot be set; the text is a sentence that says what may be."""


class Option(msgspec.Struct, frozen=True):
    """One setting. `type` is boolean, string, int, long or double, as Kafka's DescribeConfigs names them; `default`
    None means that it is worked out elsewhere, as `doc` says. `dynamic`: may change while the broker runs. `check` raises
    ValueError, with a sentence, for a text that means nothing."""

    name: str
    type: str
    default: Value | None
    doc: str
    dynamic: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None

    def parse(self, value: object) -> Value:
        """The typed value of what a file, a client or a person wrote. Raises OptionError."""
        parsed = self._convert(value)
        if self.choices and parsed not in self.choices:
            raise OptionError(f"{self.name} is one of {', '.join(self.choices)}, not {value!r}")
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            if self.minimum is not None and parsed < self.minimum:
                raise OptionError(f"{self.name} must be at least {self.minimum:g}, not {value!r}")
            if self.maximum is not None and parsed > self.maximum:
                raise OptionError(f"{self.name} must be at most {self.maximum:g}, not {value!r}")
        if self.check is not None:
            try:
                self.check(str(parsed))
            except ValueError as error:
                raise OptionError(f"{self.name}: {error}") from error
        return parsed

    def _convert(self, value: object) -> Value:
        text = str(value).strip()
        try:
            if self.type == "boolean":
                if text.lower() not in ("true", "false"):
                    raise ValueError(text)
                return text.lower() == "true"
            if self.type in ("int", "long"):
                return int(text)
            if self.type == "double":
                number = float(text)
                if not math.isfinite(number):
                    raise ValueError(text)
                return number
        except ValueError:
            kind = {"boolean": "true or false", "double": "a number"}.get(self.type, "a whole number")
            raise OptionError(f"{self.name} must be {kind}, not {value!r}") from None
        return text

    def show(self, value: Value | None) -> str | None:
        """The value as it travels."""
        if value is None:
            return None
        return str(value).lower() if isinstance(value, bool) else str(value)


class OptionTable:
    """Options by name."""

    def __init__(self, *options: Option) -> None:
        self.options: Mapping[str, Option] = {option.name: option for option in options}

    def __getitem__(self, name: str) -> Option:
        return self.options[name]

    def find(self, name: str) -> Option:
        """Raises OptionError for a name that is not in the table, with the nearest one that is."""
        option = self.options.get(name)
        if option is None:
            raise OptionError(f"{name} is not a known setting{_nearest(name, self.options)}")
        return option

    def parse(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Every value parsed. Raises OptionError at the first that is wrong."""
        return {name: self.find(name).parse(value) for name, value in values.items()}


def _nearest(name: str, known: Mapping[str, Option]) -> str:
    # Enough for typing errors: the known name that shares the most words.
    words = set(name.replace("_", ".").replace("-", ".").split("."))
    best = max(known, key=lambda other: len(words & set(other.split("."))), default="")
    return f"; did you mean {best}?" if words & set(best.split(".")) else ""
