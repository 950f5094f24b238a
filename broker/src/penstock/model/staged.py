"""A mapping with two depths: what is committed, and what is appended to the log but not yet committed.

A leader decides on the deeper view (committed plus staged), because requests arrive faster than commits; followers
and replay only ever see the committed one. Staged values carry the log index of the entry that made them, so that
committing that entry removes exactly its own overlay, and losing leadership drops the overlay whole.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Generic, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")


class _Deleted:
    __slots__ = ()

    def __repr__(self) -> str:
        return "DELETED"


DELETED: Final = _Deleted()


class StagedMap(Generic[K, V]):
    """Committed values (`committed`) under an overlay of staged ones, keyed alike.

    Values must be treated as immutable: a change puts a new value. `deepest` is the mapping that decisions read.
    """

    __slots__ = ("_overlay", "committed")

    def __init__(self) -> None:
        self.committed: dict[K, V] = {}
        self._overlay: dict[K, tuple[int, V | _Deleted]] = {}

    # --- the view that decisions read ----------------------------------------------------------

    def get(self, key: K) -> V | None:
        """The staged value if there is one, else the committed one, else None."""
        if self._overlay:
            staged = self._overlay.get(key)
            if staged is not None:
                value = staged[1]
                return None if isinstance(value, _Deleted) else value
        return self.committed.get(key)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def items(self) -> Iterator[tuple[K, V]]:
        """Every pair of the deepest view; committed order first, then what only the overlay has."""
        if not self._overlay:
            yield from self.committed.items()
            return
        for key, value in self.committed.items():
            staged = self._overlay.get(key)
            if staged is None:
                yield key, value
            elif not isinstance(staged[1], _Deleted):
                yield key, staged[1]
        for key, (_, value_or_deleted) in self._overlay.items():
            if key not in self.committed and not isinstance(value_or_deleted, _Deleted):
                yield key, value_or_deleted

    def values(self) -> Iterator[V]:
        """Every value of the deepest view."""
        for _, value in self.items():
            yield value

    # --- writers ---------------------------------------------------------------------------------

    def writer(self, index: int, *, staged: bool) -> MutableMapping[K, V]:
        """A mapping for one transition: reads its own depth, writes there under log index `index`."""
        return cast("MutableMapping[K, V]", _Staging(self, index) if staged else _Committing(self, index))

    def drop_staged(self) -> None:
        """Forgets everything that is not committed (truncation, step-down)."""
        self._overlay.clear()

    @property
    def staged_count(self) -> int:
        """Number of keys with an uncommitted value."""
        return len(self._overlay)

    def _stage(self, index: int, key: K, value: V | _Deleted) -> None:
        self._overlay[key] = (index, value)

    def _commit(self, index: int, key: K, value: V | _Deleted) -> None:
        if isinstance(value, _Deleted):
            self.committed.pop(key, None)
        else:
            self.committed[key] = value
        staged = self._overlay.get(key)
        if staged is not None and staged[0] <= index:
            del self._overlay[key]


class _Writer(MutableMapping[Any, Any]):
    __slots__ = ("_index", "_map")

    def __init__(self, mapping: StagedMap[Any, Any], index: int) -> None:
        self._map = mapping
        self._index = index

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Staging(_Writer):
    """Reads the deepest view, writes the overlay."""

    def __getitem__(self, key: Any) -> Any:
        value = self._map.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._map._stage(self._index, key, value)

    def __delitem__(self, key: Any) -> None:
        self._map._stage(self._index, key, DELETED)

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._map.items())


class _Committing(_Writer):
    """Reads and writes the committed values, and clears the overlay that they make good."""

    def __getitem__(self, key: Any) -> Any:
        return self._map.committed[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._map._commit(self._index, key, value)

    def __delitem__(self, key: Any) -> None:
        self._map._commit(self._index, key, DELETED)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._map.committed)
