"""Two brokers in mode MasterSlave, `sync`, under kill -9 and SIGSTOP: what clients saw is linearizable, and afterwards the
replicas hold the same.

A master that is continued after its Lease has run out is asked by clients that do not know better: that is what the checker
is here for. PENSTOCK_LINEAR_ROUNDS and PENSTOCK_LINEAR_SEED as for Raft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lin_environment import ROUNDS, SEED
from lin_faults import FOLLOWER, KILL, LEADER, PAUSE, draw
from lin_run import Run
from lin_workload import Load
from penstock.testing.availability.modes import master_slave

if TYPE_CHECKING:
    from pathlib import Path

    from lin_checker import Checker

BROKERS = 2
KINDS = [(KILL, LEADER), (PAUSE, LEADER), (KILL, FOLLOWER), (PAUSE, FOLLOWER)]

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_two_brokers_and_a_lease_are_linearizable(number: int, checker: Checker, tmp_path: Path) -> None:
    seed = SEED + number
    load = Load(idempotent=seed % 2 == 0)
    with master_slave(tmp_path, BROKERS, lease_duration_ms=3_000, lease_renew_interval_ms=1_000) as shard:
        run = Run(shard, tmp_path, seed, draw(seed, KINDS), load)
        run.must_be_linearizable(checker)
        shard.start()
        print(shard.agreed().line())
