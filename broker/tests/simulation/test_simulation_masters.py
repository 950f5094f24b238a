"""Lives of whole clusters in mode MasterSlave, election and all: as `test_simulation_seeds`, with the same words."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest

from penstock.testing.simulated_cluster.async_checks import AsyncChecks
from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.faults import KINDS, MASTERS, NOT_UNDER_A_LEASE
from penstock.testing.simulated_cluster.shapes import Shape, async_shape_of, master_shape_of
from penstock.testing.simulated_cluster.world import World, run_life, shrink

# Half of the other mode's for each replication.
SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "1000")) // 2
FIRST = int(os.environ.get("PENSTOCK_SIM_FIRST", "0"))
SEEDS_PER_TEST = 10
SHRINKING_RUNS_MAX = 60

SHAPES = pytest.mark.parametrize("shape_of", [master_shape_of, async_shape_of], ids=["sync", "async"])


@SHAPES
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, SEEDS_PER_TEST))
def test_simulated_masters_keep_their_promises(first: int, shape_of: Callable[[int], Shape]) -> None:
    for seed in range(first, min(first + SEEDS_PER_TEST, FIRST + SEEDS)):
        shape = shape_of(seed)
        try:
            run_life(seed, shape=shape)
        except Violation as violation:
            run = partial(run_life, shape=shape)
            fewer = "\n".join(map(str, shrink(seed, SHRINKING_RUNS_MAX, run, shape)))
            pytest.fail(f"{violation}\n\nit takes these faults:\n{fewer}")


@SHAPES
def test_a_seed_is_one_life_of_a_master(shape_of: Callable[[int], Shape]) -> None:
    """The same seed does the same things, to the last step."""
    for seed in (2, 5):
        shape = shape_of(seed)
        assert run_life(seed, shape=shape) == run_life(seed, shape=shape)


@SHAPES
def test_simulated_masters_meet_something(shape_of: Callable[[int], Shape]) -> None:
    """The lives above are not idle: masters change, clients write and read, all kinds of faults and both sizes are met."""
    outcomes = [run_life(seed, shape=shape_of(seed)) for seed in range(10)]
    assert sum(outcome.acknowledged for outcome in outcomes) > 1_000
    assert sum(outcome.read for outcome in outcomes) > 1_000
    assert sum(outcome.epochs for outcome in outcomes) > 25
    assert {shape_of(seed).brokers for seed in range(30)} == {2, 3}
    shapes = [shape_of(seed) for seed in range(60)]
    assert any(shape.resizes for shape in shapes) is (shape_of is master_shape_of)
    assert any(shape.grows for shape in shapes)
    assert {shape.operator for shape in shapes} == {False, True}


def test_simulated_masters_meet_all_faults() -> None:
    kinds = {fault.kind for seed in range(60) for fault in World(seed, shape=master_shape_of(seed)).faults}
    assert kinds == {*KINDS, *MASTERS} - {*NOT_UNDER_A_LEASE}


def test_lives_of_lonely_masters_lose_something_and_say_so() -> None:
    """Else nothing would be shown by them."""
    lost = 0
    for seed in range(40):
        world = World(seed, shape=async_shape_of(seed))
        try:
            world.live()
        finally:
            world.end()
        assert isinstance(world.checks, AsyncChecks)
        assert world.checks.lost <= world.checks.set_aside
        lost += len(world.checks.lost)
    assert lost > 100


@pytest.mark.parametrize(
    ("seed", "shape_of"),
    [
        pytest.param(1473, master_shape_of, id="a disk that hangs under writes that the page cache takes"),
        pytest.param(1202, async_shape_of, id="a master that ends while the judge reads from it"),
        pytest.param(5910, async_shape_of, id="a read that a hung disk holds up until what it read is lost"),
    ],
)
def test_lives_that_once_went_wrong(seed: int, shape_of: Callable[[int], Shape]) -> None:
    run_life(seed, shape=shape_of(seed))
