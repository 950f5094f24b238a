"""The staged map against two plain dicts: what is committed, and what would be if everything staged were."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.model.staged import StagedMap

KEYS = st.sampled_from("abcd")
# A transition: keys to set (a number) or to delete (None), done in order through one writer.
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.integers(0, 9)), min_size=1, max_size=3)


def change(mapping: Any, changes: list[tuple[str, int | None]]) -> None:
    for key, value in changes:
        if value is None:
            mapping.pop(key, None)
        else:
            mapping[key] = mapping.get(key, 0) * 10 + value


class StagedMapMachine(RuleBasedStateMachine):
    """Entries are staged in order and committed in order; at any time what is staged may be dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.map: StagedMap[str, int] = StagedMap()
        self.committed: dict[str, int] = {}
        self.staged: list[tuple[int, list[tuple[str, int | None]]]] = []
        self.index = 0

    @property
    def deepest(self) -> dict[str, int]:
        view = dict(self.committed)
        for _, changes in self.staged:
            change(view, changes)
        return view

    @rule(changes=CHANGES)
    def stage(self, changes: list[tuple[str, int | None]]) -> None:
        self.index += 1
        self.staged.append((self.index, changes))
        change(self.map.writer(self.index, staged=True), changes)

    @precondition(lambda self: self.staged)
    @rule()
    def commit(self) -> None:
        index, changes = self.staged.pop(0)
        change(self.committed, changes)
        change(self.map.writer(index, staged=False), changes)

    @precondition(lambda self: not self.staged)
    @rule(changes=CHANGES)
    def replay(self, changes: list[tuple[str, int | None]]) -> None:
        self.index += 1
        change(self.committed, changes)
        change(self.map.writer(self.index, staged=False), changes)

    @rule()
    def drop(self) -> None:
        self.staged.clear()
        self.map.drop_staged()

    @invariant()
    def agrees(self) -> None:
        assert self.map.committed == self.committed
        assert dict(self.map.items()) == self.deepest
        assert sorted(self.map.values()) == sorted(self.deepest.values())
        assert {key: self.map.get(key) for key in "abcd"} == {key: self.deepest.get(key) for key in "abcd"}
        assert [key in self.map for key in "abcd"] == [key in self.deepest for key in "abcd"]
        assert dict(self.map.writer(99, staged=True)) == self.deepest
        assert len(self.map.writer(99, staged=False)) == len(self.committed)
        if not self.staged:
            assert self.map.staged_count == 0


TestStagedMap = StagedMapMachine.TestCase


def test_a_writer_reads_its_own_depth() -> None:
    mapping: StagedMap[str, int] = StagedMap()
    mapping.writer(1, staged=False)["a"] = 1
    mapping.writer(2, staged=True)["a"] = 2
    assert mapping.writer(3, staged=True)["a"] == 2
    assert mapping.writer(3, staged=False)["a"] == 1
    with pytest.raises(KeyError):
        mapping.writer(3, staged=False)["b"]


def test_an_older_commit_does_not_hide_what_is_staged_later() -> None:
    mapping: StagedMap[str, int] = StagedMap()
    mapping.writer(1, staged=True)["a"] = 1
    del mapping.writer(2, staged=True)["a"]
    mapping.writer(1, staged=False)["a"] = 1
    assert mapping.committed == {"a": 1}
    assert "a" not in mapping
