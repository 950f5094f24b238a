"""Lives of shards in mode MasterSlave, as far as the election and what it protects go, each from one seed.

`PENSTOCK_SIM_SEEDS` says how many seeds there are, `PENSTOCK_SIM_FIRST` with which they begin.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from master_faults import KINDS
from master_world import run_life, shape_of
from penstock.replication.takeover import Replication

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "1000"))
FIRST = int(os.environ.get("PENSTOCK_SIM_FIRST", "0"))
SEEDS_PER_TEST = 50


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, SEEDS_PER_TEST))
def test_simulated_masters_keep_their_promises(first: int) -> None:
    for seed in range(first, min(first + SEEDS_PER_TEST, FIRST + SEEDS)):
        run_life(seed)


def test_a_seed_is_one_life_of_a_master() -> None:
    def life(seed: int) -> object:
        world = run_life(seed)
        return world.store.record, world.acknowledged, list(world.events)

    for seed in (3, 11):
        assert life(seed) == life(seed)


def test_simulated_masters_do_and_meet_something() -> None:
    worlds = [run_life(seed) for seed in range(40)]
    assert sum(world.masters for world in worlds) > 60
    assert sum(world.acknowledged_count for world in worlds) > 20_000
    assert {kind for world in worlds for kind in world.faults.met} == set(KINDS)
    shapes = [shape_of(Random(seed)) for seed in range(60)]
    assert {shape.brokers for shape in shapes} == {2, 3}
    assert {(shape.policy.replication, shape.policy.allow_data_loss) for shape in shapes} == {
        (Replication.SYNC, False),
        (Replication.ASYNC, False),
        (Replication.ASYNC, True),
    }
    assert any(world.losses for world in worlds)
    assert any(world.faults.released_by_operator for world in worlds)
