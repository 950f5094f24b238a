"""Raft's safety properties (thesis, section 3.2, figure 3.2) and its liveness, in random hostile worlds."""

from __future__ import annotations

import os

import pytest

from raft_cluster import World

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "40"))
EVENTS = 4000


@pytest.mark.parametrize("seed", range(SEEDS))
def test_simulated_group_stays_safe_and_comes_together(seed: int) -> None:
    world = World(seed)
    for _ in range(EVENTS):
        world.step()
    world.heal()
