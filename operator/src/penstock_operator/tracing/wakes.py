"""Why objects were woken, and to whose trace their passes belong, until a pass takes it.

A `traceparent` on a resource is the parent of the passes that bring about what was edited with it: of all until one finds
nothing left to do. Later passes, such as the next resync, have nothing to do with that edit and are traces of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from penstock_operator.reconcile.schedule import KEYS_MAX

if TYPE_CHECKING:
    from penstock_operator.reconcile.ports import Key
    from penstock_operator.tracing.traceparent import TraceParent

TRIGGERS_MAX: Final = 8  # different reasons for one pass; what more there were is only counted
PASSES_MAX: Final = 100  # in one foreign trace; an object that never settles must not fill it
TIME: Final = "its time came"


class Woken(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a pass begins. `unnamed` triggers were one too many to be listed."""

    triggers: list[str]
    unnamed: int = 0
    parent: TraceParent | None = None


class _Parent(msgspec.Struct, kw_only=True):
    """A resource's parent, and for how many more passes it is one."""

    parent: TraceParent
    passes_left: int = PASSES_MAX


class Wakes:
    """See the module. What there is no room for is not remembered: passes are traced without it."""

    def __init__(self) -> None:
        self._triggers: dict[Key, dict[str, None]] = {}
        self._unnamed: dict[Key, int] = {}
        self._parents: dict[Key, _Parent] = {}

    def woken(self, key: Key, trigger: str) -> None:
        """The object was woken for this reason."""
        if key not in self._triggers and len(self._triggers) >= KEYS_MAX:
            return
        triggers = self._triggers.setdefault(key, {})
        if trigger in triggers:
            return
        if len(triggers) >= TRIGGERS_MAX:
            self._unnamed[key] = self._unnamed.get(key, 0) + 1
            return
        triggers[trigger] = None

    def belongs(self, key: Key, parent: TraceParent | None) -> None:
        """The object is now annotated with this parent; the same one again changes nothing."""
        if parent is None:
            self._parents.pop(key, None)
            return
        known = self._parents.get(key)
        if known is not None and known.parent == parent:
            return
        if known is not None or len(self._parents) < KEYS_MAX:
            self._parents[key] = _Parent(parent=parent)

    def take(self, key: Key) -> Woken:
        """A pass over the object begins."""
        triggers = list(self._triggers.pop(key, {})) or [TIME]
        return Woken(triggers=triggers, unnamed=self._unnamed.pop(key, 0), parent=self._parent(key))

    def settled(self, key: Key, parent: TraceParent | None) -> None:
        """A pass that had this parent found nothing left to do: what comes next is no part of that trace."""
        known = self._parents.get(key)
        if known is not None and known.parent == parent:
            known.passes_left = 0

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._triggers.pop(key, None)
        self._unnamed.pop(key, None)
        self._parents.pop(key, None)

    def _parent(self, key: Key) -> TraceParent | None:
        known = self._parents.get(key)
        if known is None or known.passes_left <= 0:
            return None
        known.passes_left -= 1
        return known.parent
