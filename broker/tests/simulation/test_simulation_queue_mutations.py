"""Rules of queue groups broken on purpose: the lives of simulated clusters must notice each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest

from penstock.codec.records import BatchOptions
from penstock.model.commands import Command
from penstock.model.errors import PenstockError
from penstock.service import queue_outbox
from penstock.service.queue_driver import QueueDriver
from penstock.service.queue_granting import Outcome
from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.shapes import shape_of
from penstock.testing.simulated_cluster.world import run_life

LIVES_MAX = 100
# A commit takes about so long where nothing goes wrong.
COMMIT_SECONDS = 0.02
NOTICED = r"came again|another held it|lost to the group|written twice|acknowledged"
Mutation = Callable[[pytest.MonkeyPatch], None]


def answered_before_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    propose = QueueDriver._propose

    def hasty(self: QueueDriver, commands: Sequence[Command], done: Outcome) -> bool:
        def nothing(error: PenstockError | None) -> None:
            pass

        appended = propose(self, commands, nothing)
        asyncio.get_running_loop().call_later(COMMIT_SECONDS, done, None)
        return appended

    monkeypatch.setattr(QueueDriver, "_propose", hasty)


def dead_letters_without_a_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    def anonymous(**given: int) -> BatchOptions:
        return BatchOptions()

    monkeypatch.setattr(queue_outbox, "BatchOptions", anonymous)


MUTATIONS: list[Mutation] = [answered_before_it_is_committed, dead_letters_without_a_producer]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_broken_rule_is_noticed(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    with pytest.raises(Violation, match=NOTICED):
        _live()


def _live() -> None:
    for seed in range(LIVES_MAX):
        run_life(seed, shape=msgspec.structs.replace(shape_of(seed), queue_members=3, trims=False))
