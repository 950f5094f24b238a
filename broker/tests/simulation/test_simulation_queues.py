"""Members of a queue group through the lives of simulated clusters: nothing lost, nothing in both places, nobody shares a message.

Without `async` replication, which may lose what was acknowledged, and without anybody who moves the log's start.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import pytest

from penstock.testing.simulated_cluster.shapes import Shape, master_shape_of, shape_of
from penstock.testing.simulated_cluster.world import World, run_life

SEEDS = int(os.environ.get("PENSTOCK_SIM_QUEUE_SEEDS", "20"))
SEEDS_PER_TEST = 10
MEMBERS = 3


def with_members(shape: Shape) -> Shape:
    return msgspec.structs.replace(shape, queue_members=MEMBERS, trims=False)


@pytest.mark.parametrize("of_seed", [shape_of, master_shape_of], ids=["Raft", "MasterSlave"])
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_members_of_queue_groups_are_kept_what_they_were_promised(
    first: int, of_seed: Callable[[int], Shape]
) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        run_life(seed, shape=with_members(of_seed(seed)))


def test_members_meet_something() -> None:
    """They are not idle: messages are leased, and come again."""
    leased = done = 0
    for seed in range(5):
        world = World(seed, shape=with_members(shape_of(seed)))
        try:
            world.live()
        finally:
            world.end()
        leased += world.queue_book.leased
        done += len(world.queue_book.done)
    assert done > 500
    assert leased > done + 100
