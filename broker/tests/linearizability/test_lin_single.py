"""One broker under kill -9 and SIGSTOP: what real clients saw is linearizable.

Short by default; PENSTOCK_LINEAR_FAULTS=100 makes the runs longer, PENSTOCK_LINEAR_SEED repeats one's faults.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lin_broken_broker
from lin_environment import AGAIN, FAULTS, SEED
from lin_faults import KILL, PAUSE, draw
from lin_run import Run
from lin_workload import Load
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from lin_checker import Checker

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120 + 40 * FAULTS)]


@pytest.mark.parametrize("policy", ["sync", "async"])
@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
def test_one_broker_is_linearizable(policy: str, idempotent: bool, checker: Checker, tmp_path: Path) -> None:
    config = {"flush.policy": policy, "log.segment.bytes": 1 << 20}
    faults = draw(SEED, FAULTS, kinds=(KILL, KILL, PAUSE))
    with ShardProcesses(tmp_path, replicas=1, config=config) as shard:
        Run(shard, tmp_path, SEED, faults, Load(idempotent=idempotent), again=AGAIN).must_be_linearizable(
            checker
        )


def test_a_broker_that_acknowledges_too_early_is_caught(checker: Checker, tmp_path: Path) -> None:
    """The same run, the same checks, and a broker that says "written" a moment before it is."""
    program = [str(Path(lin_broken_broker.__file__)), lin_broken_broker.EARLY_ACK]
    # Not at once: the topic itself is to be on disk.
    faults = draw(SEED, 2, kinds=(KILL,), quiet_s=(0.8, 1.2))
    with ShardProcesses(tmp_path, replicas=1, program=program) as shard:
        run = Run(shard, tmp_path, SEED, faults, again=AGAIN)
        judgement = run.judge(checker, run.play())
    assert judgement.verdict == "violation", run.story()
    assert "did not see it" in judgement.words()
