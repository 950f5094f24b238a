"""The proof that the lives of masters find what they are for: rules broken on purpose, each noticed within 300 seeds. Rules that
only a process that stood still would break, and joining a little too early, are tried one by one: `test_simulation_mastership`,
`test_lease_gate`, `test_in_sync`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from penstock.raft import mastership
from penstock.raft.modes import MasterSlaveAsync, MasterSlaveSync
from penstock.raft.ready import Tail
from penstock.raft.state import CommitSets, State
from penstock.runtime.forked_tails import ForkedTails
from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.faults import Shape, async_shape_of, master_shape_of
from penstock.testing.simulated_cluster.world import run_life

SEEDS_MAX = 300

Mutation = Callable[[pytest.MonkeyPatch], None]


def commits_what_the_master_alone_holds(patch: pytest.MonkeyPatch) -> None:
    """Under `sync`, nobody is waited for."""
    patch.setattr(MasterSlaveSync, "agreed", MasterSlaveAsync.agreed)


def counts_the_new_set_alone(patch: pytest.MonkeyPatch) -> None:
    """The old set counts no more while the change is unresolved."""
    right = mastership.set_commit_sets

    def set_commit_sets(state: State, sets: CommitSets) -> None:
        right(state, sets[-1:])

    patch.setattr(mastership, "set_commit_sets", set_commit_sets)


def cuts_a_tail_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """What a new master lacks is gone."""

    def keep(self: ForkedTails, tail: Tail, then: Callable[[], None]) -> None:
        then()

    patch.setattr(ForkedTails, "keep", keep)


def takes_what_it_committed_for_everybody_s(patch: pytest.MonkeyPatch) -> None:
    """A follower never compares what it took for committed."""
    patch.setattr(MasterSlaveAsync, "may_fork", False)


BROKEN: Sequence[tuple[Mutation, Callable[[int], Shape]]] = (
    (commits_what_the_master_alone_holds, master_shape_of),
    (counts_the_new_set_alone, master_shape_of),
    (cuts_a_tail_without_a_word, async_shape_of),
    (takes_what_it_committed_for_everybody_s, async_shape_of),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mutation", "shape_of"), BROKEN, ids=lambda value: value.__name__)
def test_simulated_masters_notice_a_broken_rule(
    mutation: Mutation, shape_of: Callable[[int], Shape], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(SEEDS_MAX):
        try:
            run_life(seed, shape=shape_of(seed))
        except Violation as violation:
            print(f"{mutation.__name__}: seed {seed}: {str(violation).splitlines()[0]}")
            return
    pytest.fail(f"{SEEDS_MAX} lives noticed nothing")
