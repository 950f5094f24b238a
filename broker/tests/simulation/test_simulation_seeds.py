"""Lives of whole clusters under every fault that the design promises to survive, each from one seed.

`PENSTOCK_SIM_SEEDS` says how many seeds there are, `PENSTOCK_SIM_FIRST` with which they begin. A life that goes wrong
prints its seed, its last events, and the fewest of its faults that were found to lead there.
"""

from __future__ import annotations

import os

import pytest

from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.faults import KINDS
from penstock.testing.simulated_cluster.shapes import shape_of
from penstock.testing.simulated_cluster.world import World, run_life, shrink

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "1000"))
FIRST = int(os.environ.get("PENSTOCK_SIM_FIRST", "0"))
SEEDS_PER_TEST = 10
SHRINKING_RUNS_MAX = 60


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, SEEDS_PER_TEST))
def test_simulated_clusters_keep_their_promises(first: int) -> None:
    for seed in range(first, min(first + SEEDS_PER_TEST, FIRST + SEEDS)):
        try:
            run_life(seed)
        except Violation as violation:
            fewer = "\n".join(map(str, shrink(seed, SHRINKING_RUNS_MAX)))
            pytest.fail(f"{violation}\n\nit takes these faults:\n{fewer}")


@pytest.mark.parametrize(
    ("seed", "story"),
    [
        (402, "more was read back than had been committed when reading began"),
        (1678, "reading back went on behind what had been committed when it began"),
        (1425, "a disk without room for an epoch ended its broker"),
        (2949, "what a slow disk still held up was committed while all was read back"),
        (5591, "a leader that was started again did not say which old entries changed the members"),
        (5724, "a new leader got no answer from a broker whose log ended before it knew that leader"),
        (11401, "messages were removed, as had been asked for before, while all was read back"),
    ],
)
def test_lives_that_once_went_wrong(seed: int, story: str) -> None:
    """Beyond those above; what each of them was is also tested where it was mended."""
    run_life(seed)


def test_a_seed_is_one_life() -> None:
    """The same seed does the same things, to the last step."""
    for seed in (3, 11):
        assert run_life(seed) == run_life(seed)


def test_simulated_clusters_do_and_meet_something() -> None:
    """The lives above are not idle: leaders change, clients write and read, all kinds of faults and of shapes are met."""
    outcomes = [run_life(seed) for seed in range(20)]
    assert sum(outcome.acknowledged for outcome in outcomes) > 2_000
    assert sum(outcome.read for outcome in outcomes) > 2_000
    assert sum(outcome.epochs for outcome in outcomes) > 50
    assert {fault.kind for seed in range(60) for fault in World(seed).faults} == set(KINDS)
    shapes = [shape_of(seed) for seed in range(60)]
    assert {shape.brokers for shape in shapes} == {1, 3, 5}
    assert any(shape.grows for shape in shapes)
    assert {shape.sync for shape in shapes} == {True, False}


def test_a_life_that_goes_wrong_shrinks() -> None:
    """Fewer faults remain, and they still lead there."""

    def run(seed: int, faults: object) -> None:
        kinds = [fault.kind for fault in faults]  # type: ignore[attr-defined]
        if "pause" in kinds and "kill" in kinds:
            raise Violation("both")

    seed = next(
        seed for seed in range(1000) if {"pause", "kill"} <= {fault.kind for fault in World(seed).faults}
    )
    assert sorted(fault.kind for fault in shrink(seed, 200, run)) == ["kill", "pause"]
