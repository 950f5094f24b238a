"""One broker under kill -9 and SIGSTOP: what real clients saw is linearizable.

Short by default; PENSTOCK_LINEAR_ROUNDS=50 plays more rounds, PENSTOCK_LINEAR_SEED repeats one's faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lin_broken_broker
from lin_environment import ROUNDS, SEED
from lin_faults import KILL, LEADER, PAUSE, draw
from lin_run import Run
from lin_workload import Load
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from pathlib import Path

    from lin_checker import Checker

pytestmark = [pytest.mark.clients, pytest.mark.timeout(240)]
CONFIG = {"log.segment.bytes": 1 << 20}


@pytest.mark.parametrize(
    ("policy", "idempotent"), [("sync", False), ("async", True)], ids=["sync-plain", "async-idempotent"]
)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_broker_is_linearizable(
    number: int, policy: str, idempotent: bool, checker: Checker, tmp_path: Path
) -> None:
    seed = SEED + number
    faults = draw(seed, [(KILL, LEADER), (KILL, LEADER), (PAUSE, LEADER)], lasts=(1, 12))
    with ShardProcesses(tmp_path, replicas=1, config={"flush.policy": policy, **CONFIG}) as shard:
        Run(shard, tmp_path, seed, faults, Load(idempotent=idempotent)).must_be_linearizable(checker)


def test_a_broker_that_acknowledges_too_early_is_caught(checker: Checker, tmp_path: Path) -> None:
    """The same run, the same checks, and a broker that says "written" a moment before it is."""
    program = [lin_broken_broker.__file__, lin_broken_broker.EARLY_ACK]
    # Not at once: the topic itself is to be on disk.
    faults = draw(SEED, [(KILL, LEADER), (KILL, LEADER)], after=(150, 200))
    with ShardProcesses(tmp_path, replicas=1, program=program) as shard:
        Run(shard, tmp_path, SEED, faults).must_be_refused(checker, "did not see it")
