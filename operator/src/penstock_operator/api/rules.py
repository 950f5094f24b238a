"""Rules that go beyond types: each once, as CEL for the API server and as a Python twin for `penstock up`.

A rule sits at a path of the resource and speaks about the value there (`self`), and, when it compares with what was
there before, about the old value too (`oldSelf`; such a rule runs on updates only). Its message is the sentence the
user reads on both roads, so it ends with what to write instead. The tables are in `cluster_rules`, `topic_rules` and
`group_rules`; this module has the shape of a rule and the walk that applies them off-cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

Twin = Callable[[Any, Any], bool]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of one kind.

    `path` is dotted from the resource's root ("" is the root, `[*]` every item of a list). `holds(new, old)` must say
    the same as `cel`; `old` is None unless the rule is about an update.
    """

    name: str
    path: str
    cel: str
    message: str
    holds: Twin

    @property
    def is_transition(self) -> bool:
        """Whether the rule compares with the old value."""
        return "oldSelf" in self.cel


def broken_rules(
    rules: tuple[Rule, ...], new: dict[str, Any], old: dict[str, Any] | None = None
) -> list[Rule]:
    """The rules that `new` breaks, replacing `old` where there was one. Values must fit the schema already."""
    broken = []
    for rule in rules:
        for new_value, old_value in _places(rule.path, new, old):
            if rule.is_transition and old_value is None:
                continue
            if not rule.holds(new_value, old_value):
                broken.append(rule)
                break
    return broken


def _places(path: str, new: Any, old: Any) -> Iterator[tuple[Any, Any]]:
    """Every (new, old) pair of values at the path; a missing new value has no place, as in CEL."""
    if not path:
        yield new, old
        return
    head, _, rest = path.partition(".")
    is_list = head.endswith("[*]")
    key = head.removesuffix("[*]")
    if not isinstance(new, dict) or new.get(key) is None:
        return
    old_child = old.get(key) if isinstance(old, dict) else None
    if not is_list:
        yield from _places(rest, new[key], old_child)
        return
    for item in new[key]:
        # Items have no old value here: lists are compared by rules on the list's parent.
        yield from _places(rest, item, None)


def unavailable(what: str, instead: str) -> str:
    """The sentence for a field that belongs to a later release."""
    return f"{what} is not available in this release: {instead}"
