"""Lives of whole clusters in mode MasterSlave, with an ideal Lease: as `test_simulation_seeds`, with the same words."""

from __future__ import annotations

import os
from functools import partial

import pytest

from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.faults import KINDS, MASTERS, NOT_UNDER_A_LEASE, master_shape_of
from penstock.testing.simulated_cluster.world import World, run_life, shrink

# Half as many as of the other mode: they share everything but who elects and who commits.
SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "1000")) // 2
FIRST = int(os.environ.get("PENSTOCK_SIM_FIRST", "0"))
SEEDS_PER_TEST = 10
SHRINKING_RUNS_MAX = 60


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, SEEDS_PER_TEST))
def test_simulated_masters_keep_their_promises(first: int) -> None:
    for seed in range(first, min(first + SEEDS_PER_TEST, FIRST + SEEDS)):
        shape = master_shape_of(seed)
        try:
            run_life(seed, shape=shape)
        except Violation as violation:
            run = partial(run_life, shape=shape)
            fewer = "\n".join(map(str, shrink(seed, SHRINKING_RUNS_MAX, run, shape)))
            pytest.fail(f"{violation}\n\nit takes these faults:\n{fewer}")


def test_a_seed_is_one_life_of_a_master() -> None:
    """The same seed does the same things, to the last step."""
    for seed in (2, 5):
        shape = master_shape_of(seed)
        assert run_life(seed, shape=shape) == run_life(seed, shape=shape)


def test_simulated_masters_meet_something() -> None:
    """The lives above are not idle: masters change, clients write and read, all kinds of faults and both sizes are met."""
    outcomes = [run_life(seed, shape=master_shape_of(seed)) for seed in range(10)]
    assert sum(outcome.acknowledged for outcome in outcomes) > 1_000
    assert sum(outcome.read for outcome in outcomes) > 1_000
    assert sum(outcome.epochs for outcome in outcomes) > 25
    kinds = {fault.kind for seed in range(60) for fault in World(seed, shape=master_shape_of(seed)).faults}
    assert kinds == {*KINDS, *MASTERS} - set(NOT_UNDER_A_LEASE)
    assert {master_shape_of(seed).brokers for seed in range(30)} == {2, 3}
