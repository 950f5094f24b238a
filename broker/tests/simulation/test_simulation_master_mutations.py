"""The proof that the lives of masters find what they are for: rules broken on purpose, each noticed within 300 seeds. Rules that
only a process that stood still would break, and joining a little too early, are tried one by one: `test_simulation_mastership`,
`test_lease_gate`, `test_in_sync`. Rules of the election that short lives seldom come near are broken in `test_master_mutations`
alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from penstock.raft import mastership
from penstock.raft.modes import MasterSlaveAsync, MasterSlaveSync
from penstock.raft.ready import Tail
from penstock.raft.state import CommitSets, State
from penstock.replication.master_view import MasterView
from penstock.runtime.forked_tails import ForkedTails
from penstock.runtime.lease_elector import LeaseElector
from penstock.runtime.mastership import Mastership
from penstock.testing import broken_elections
from penstock.testing.broken_elections import Mutation
from penstock.testing.broken_rules import expect_notice
from penstock.testing.simulated_cluster.leases import Leases
from penstock.testing.simulated_cluster.shapes import Shape, async_shape_of, master_shape_of
from penstock.testing.simulated_cluster.world import World, run_life


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


def believes_the_renew_time(patch: pytest.MonkeyPatch) -> None:
    """How old the Lease is follows from the time in it and the own wall clock."""
    right = LeaseElector.attach

    def attach(self: LeaseElector, mastership: Mastership) -> None:
        right(self, mastership)
        self._election._view.wall_clock = self._clock  # type: ignore[attr-defined]

    def unchanged_ms(self: MasterView, now: int) -> int:
        assert self.record is not None
        return self.wall_clock.now_ms() - self.record.renewed_at_us // 1000  # type: ignore[attr-defined, no-any-return]

    patch.setattr(LeaseElector, "attach", attach)
    patch.setattr(MasterView, "unchanged_ms", unchanged_ms)


def releases_without_proof(patch: pytest.MonkeyPatch) -> None:
    """An operator takes a process that it does not hear of for one that has ended."""
    right = Leases.__init__

    def init(self: Leases, world: World, shape: Shape) -> None:
        right(self, world, shape)

        def look() -> None:
            world.agenda.after(0.2, look)
            for broker in world.brokers:
                if broker.loop is not None and broker.loop.paused_until > world.agenda.now:
                    self.server.release(broker.holder, "it was not heard of")

        world.agenda.after(0.2, look)

    patch.setattr(Leases, "__init__", init)


BROKEN: Sequence[tuple[Mutation, Callable[[int], Shape]]] = (
    (commits_what_the_master_alone_holds, master_shape_of),
    (counts_the_new_set_alone, master_shape_of),
    (cuts_a_tail_without_a_word, async_shape_of),
    (takes_what_it_committed_for_everybody_s, async_shape_of),
    (believes_the_renew_time, master_shape_of),
    (releases_without_proof, master_shape_of),
    (broken_elections.promotes_outside_the_in_sync_set, master_shape_of),
    (broken_elections.does_not_wait_for_the_duration, master_shape_of),
    (broken_elections.waits_for_half_the_duration, master_shape_of),
    (broken_elections.takes_the_epoch_from_the_lease_alone, master_shape_of),
    (broken_elections.takes_an_older_lease_for_a_free_one, master_shape_of),
    (broken_elections.takes_a_missing_lease_for_a_free_one, master_shape_of),
    (broken_elections.async_takes_over_what_may_lack_something, async_shape_of),
    (broken_elections.leads_before_the_epoch_is_on_disk, master_shape_of),
    (broken_elections.never_demotes_itself, master_shape_of),
    (broken_elections.takes_an_unknown_outcome_for_success, master_shape_of),
    (broken_elections.renews_with_a_log_that_hangs, master_shape_of),
    (broken_elections.changes_the_set_without_the_old_one, master_shape_of),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mutation", "shape_of"), BROKEN, ids=lambda value: value.__name__)
def test_simulated_masters_notice_a_broken_rule(
    mutation: Mutation, shape_of: Callable[[int], Shape], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    expect_notice(lambda seed: run_life(seed, shape=shape_of(seed)), mutation.__name__)
