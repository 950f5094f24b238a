"""A selector, and a group's filter, as things that are asked about messages.

`compile_selector` is for one SQL expression over any mapping of names to values; `compile_filter` for what a group
declares, `{tags, sql}`, over records: a message is wanted if both want it. Both are compiled once and kept. As the
specification says, unknown is no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from penstock.selectors.compiling import Condition, compile_condition
from penstock.selectors.errors import SelectorError
from penstock.selectors.parser import parse
from penstock.selectors.properties import TAGS, properties_of
from penstock.selectors.tags import parse_tags
from penstock.selectors.tree import names_in
from penstock.selectors.values import Value

_Compiled = TypeVar("_Compiled")


class Selector:
    """A compiled selector. `names` are the properties that it looks at: others need not be in the mapping."""

    def __init__(self, text: str, condition: Condition, names: frozenset[str]) -> None:
        self.text = text
        self.names = names
        self._condition = condition

    def evaluate(self, properties: Mapping[str, Value]) -> bool | None:
        """True, False or None (unknown) for a message with these properties; names that are missing are NULL."""
        return self._condition(properties)

    def matches(self, properties: Mapping[str, Value]) -> bool:
        """Whether such a message is wanted."""
        return self._condition(properties) is True


def compile_selector(text: str) -> Selector:
    """The selector; an empty text wants every message (3.8.1). Raises SelectorError, and nothing else."""
    if not text.strip():
        return Selector(text, lambda properties: True, frozenset())
    tree = parse(text)
    return Selector(text, compile_condition(tree), frozenset(names_in(tree)))


class MessageFilter:
    """What a group wants of its topics."""

    def __init__(self, tags: frozenset[str] | None, selector: Selector | None) -> None:
        self._tags = tags
        self._selector = selector
        self._names = (selector.names if selector else frozenset()) | (
            {TAGS} if tags is not None else frozenset()
        )

    @property
    def wants_everything(self) -> bool:
        """Whether no message needs to be looked at."""
        return self._tags is None and self._selector is None

    def matches(
        self, key: bytes | None, timestamp_ms: int, headers: Iterable[tuple[str, bytes | None]]
    ) -> bool:
        """Whether a record with this key, timestamp (since 1970) and headers is wanted."""
        properties = properties_of(self._names, key, timestamp_ms, headers)
        if self._tags is not None and properties.get(TAGS) not in self._tags:
            return False
        return self._selector is None or self._selector.matches(properties)


def compile_filter(tags: str | None = None, sql: str | None = None) -> MessageFilter:
    """A group's filter; None, and what is empty, wants every message. Raises SelectorError, which names the field."""
    wanted = _of_field("tags", parse_tags, tags) if tags is not None else None
    selector = _of_field("sql", compile_selector, sql) if sql is not None and sql.strip() else None
    return MessageFilter(wanted, selector)


def _of_field(field: str, compiler: Callable[[str], _Compiled], text: str) -> _Compiled:
    try:
        return compiler(text)
    except SelectorError as error:
        raise SelectorError(error.position, error.reason, field) from error
