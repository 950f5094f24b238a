"""Three brokers under kill -9, SIGSTOP, partitions and lost packets: what clients saw is linearizable, and afterwards the
replicas hold the same.

Every broker has a network namespace of its own, so that links between brokers can be cut one way while clients still
reach all of them: that is how a deposed leader is asked by those who do not know better. Short by default;
PENSTOCK_LINEAR_ROUNDS=50 plays more rounds, PENSTOCK_LINEAR_SEED repeats one's faults.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import lin_broken_broker
from lin_environment import ROUNDS, SEED
from lin_faults import (
    ANYBODY,
    CUT,
    CUT_FROM,
    CUT_TO,
    FOLLOWER,
    ISOLATE,
    KILL,
    LEADER,
    LOSS,
    LOSS_AND_KILL,
    PAUSE,
    draw,
)
from lin_run import Run
from lin_workload import Load
from penstock.testing.fault_network import FaultNetwork
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lin_checker import Checker

BROKERS = 3
CONFIG = {"min.insync.replicas": 2, "raft.election.timeout.ms": 1000}

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]


@pytest.fixture
def network(needs_namespaces: None) -> Iterator[FaultNetwork]:
    with FaultNetwork(BROKERS) as made:
        yield made


@contextmanager
def shard_in(
    network: FaultNetwork, folder: Path, program: Sequence[str] | None = None
) -> Iterator[ShardProcesses]:
    """Three brokers that run and have a leader."""
    shard = ShardProcesses(folder, replicas=BROKERS, config=CONFIG, place=network, program=program)
    try:
        network.run(shard.start)
        yield shard
    finally:
        shard.close()


SIGNALS = [(KILL, LEADER), (PAUSE, LEADER), (KILL, FOLLOWER), (PAUSE, FOLLOWER)]
LINKS = [(CUT, LEADER), (CUT, FOLLOWER), (CUT_FROM, LEADER), (CUT_TO, LEADER), (ISOLATE, ANYBODY)]
PACKETS = [(LOSS, ANYBODY), (LOSS_AND_KILL, LEADER)]


@pytest.mark.parametrize("kinds", [SIGNALS, LINKS, PACKETS], ids=["signals", "links", "packets"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_three_brokers_are_linearizable(
    number: int, kinds: list[tuple[str, str]], network: FaultNetwork, checker: Checker, tmp_path: Path
) -> None:
    seed = SEED + number
    # With every seed, some scenarios have idempotent producers and some have not.
    load = Load(idempotent=(seed + len(kinds)) % 2 == 0)
    with shard_in(network, tmp_path) as shard:
        run = Run(shard, tmp_path, seed, draw(seed, kinds), load, network)
        network.run(lambda: run.must_be_linearizable(checker))
        print(network.run(shard.agreed).line())


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lin_broken_broker.EARLIER_ACK, "was acknowledged at"),
        (lin_broken_broker.COMMITS_ALONE, "was acknowledged at"),
        (lin_broken_broker.LEADS_ALONE, "did not see it"),
    ],
)
def test_a_broken_build_is_caught(
    build: str, sentence: str, network: FaultNetwork, checker: Checker, tmp_path: Path
) -> None:
    """The same run and checks with a rule taken out: the leader is cut off, and clients still reach it."""
    program = [lin_broken_broker.__file__, build]
    faults = draw(SEED, [(CUT, LEADER)])
    with shard_in(network, tmp_path, program) as shard:
        run = Run(shard, tmp_path, SEED, faults, network=network)
        network.run(lambda: run.must_be_refused(checker, sentence))
