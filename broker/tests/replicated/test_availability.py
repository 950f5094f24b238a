"""Cells of the availability matrix: nothing acknowledged is lost, moved, doubled or out of order, and replicas agree.

The whole matrix, with times, is `python -m bench.availability`; here are the cells that differ most from each other.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from penstock.testing.availability.faults import Absence
from penstock.testing.availability.matrix import Cause, Cell
from penstock.testing.availability.modes import MODES
from penstock.testing.availability.trial import Effort, run_trial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.testing.shard_processes import ShardProcesses

pytestmark = pytest.mark.clients

RAFT = MODES["Raft"]
BROKERS = 3
SEED = 7
# A pause outlasts two election timeouts and the clients' patience.
EFFORT = Effort(ordinary=300, flow=200, absence=Absence(paused_s=3.0, gone_s=0.5))

RECOVERING = [
    Cell(Cause.CRASH, 1, BROKERS),
    Cell(Cause.STOP, 2, BROKERS),
    Cell(Cause.DELETE, 3, BROKERS),
    Cell(Cause.PAUSE, 1, BROKERS),
    Cell(Cause.WIPE, 1, BROKERS),
]


def _id(cell: Cell) -> str:
    return f"{cell.cause.word} {cell.words}"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardProcesses]:
    with RAFT.make(tmp_path_factory.mktemp("matrix"), BROKERS) as shard:
        yield shard


@pytest.mark.parametrize("cell", RECOVERING, ids=_id)
def test_nothing_is_lost(three: ShardProcesses, cell: Cell) -> None:
    _run(three.start(), cell)


@pytest.mark.parametrize(
    "cell", [Cell(Cause.WIPE, 2, BROKERS, behind=True), Cell(Cause.WIPE, 3, BROKERS)], ids=_id
)
def test_what_is_lost_is_what_was_said(tmp_path: Path, cell: Cell) -> None:
    with RAFT.make(tmp_path, BROKERS) as shard:
        lost, said = _run(shard, cell)
        assert lost, "without a loss there is nothing to compare"
        print(f"{lost} lost: {said}")


def _run(shard: ShardProcesses, cell: Cell) -> tuple[int, str]:
    """(how many messages are lost, what the shard said); nothing may be wrong."""
    topic = f"matrix-{cell.cause.word}-{cell.hit}"
    outcome = run_trial(shard, RAFT, cell, topic, Random(SEED), EFFORT)
    print(outcome.line())
    assert outcome.account.wrong == ()
    return outcome.account.verdict.lost, outcome.said
