"""Masters that are named from outside, in random hostile worlds: what every in-sync member holds is never lost, what one master
alone held is never lost without a word, epochs and commit indexes never go back."""

from __future__ import annotations

import os

import pytest

from penstock.raft.modes import MasterSlaveAsync, MasterSlaveSync
from penstock.raft.state import Mode
from raft_masters import MasterWorld

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "40"))
EVENTS = 4000


@pytest.mark.parametrize("mode", [MasterSlaveSync(), MasterSlaveAsync()], ids=["sync", "async"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_simulated_masters_stay_safe_and_come_together(seed: int, mode: Mode) -> None:
    world = MasterWorld(seed, mode)
    for _ in range(EVENTS):
        world.step()
    world.heal()
    world.check_losses()


def test_simulated_masters_do_and_lose_something() -> None:
    """The worlds above are not idle: masters change, and under `async` entries are lost and told."""
    worlds = [MasterWorld(seed, MasterSlaveAsync()) for seed in range(10)]
    for world in worlds:
        for _ in range(EVENTS):
            world.step()
    assert sum(len(world.leaders) for world in worlds) > 50
    assert sum(len(world.acknowledged_records) for world in worlds) > 500
    assert sum(len(world.set_aside & world.acknowledged_records) for world in worlds) > 10
