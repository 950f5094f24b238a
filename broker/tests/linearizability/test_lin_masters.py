"""Two brokers in mode MasterSlave, `sync`, under kill -9 and SIGSTOP: what clients saw is linearizable, and afterwards the
replicas hold the same. And under `async`, where something is certainly lost, that it is what was said.

A master that is continued after its Lease has run out is asked by clients that do not know better: that is what the checker
is here for. PENSTOCK_LINEAR_ROUNDS and PENSTOCK_LINEAR_SEED as for Raft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from lin_environment import ROUNDS, SEED
from lin_faults import FOLLOWER, KILL, LEADER, PAUSE, draw
from lin_run import Run
from lin_workload import Load
from penstock.testing.availability.books import Place, Records, settle
from penstock.testing.availability.load import CONNECTION, PARTITIONS, create_topic, read_back
from penstock.testing.availability.losses import find_losses
from penstock.testing.availability.matrix import Ending
from penstock.testing.availability.modes import master_slave
from penstock.testing.fault_network import FaultNetwork

if TYPE_CHECKING:
    from pathlib import Path

    from lin_checker import Checker
    from penstock.testing.master_slave_processes import MasterSlaveProcesses

BROKERS = 2
TOPIC = "alone"
FLUSH_TIMEOUT_S = 20.0
LEASE: dict[str, Any] = {"lease_duration_ms": 3_000, "lease_renew_interval_ms": 1_000}
KINDS = [(KILL, LEADER), (PAUSE, LEADER), (KILL, FOLLOWER), (PAUSE, FOLLOWER)]

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_two_brokers_and_a_lease_are_linearizable(number: int, checker: Checker, tmp_path: Path) -> None:
    seed = SEED + number
    load = Load(idempotent=seed % 2 == 0)
    with master_slave(tmp_path, BROKERS, **LEASE) as shard:
        run = Run(shard, tmp_path, seed, draw(seed, KINDS), load)
        run.must_be_linearizable(checker)
        shard.start()
        print(shard.agreed().line())


def test_what_an_async_master_alone_acknowledged_is_lost_as_it_is_said(
    needs_namespaces: None, tmp_path: Path
) -> None:
    """The link between both is cut, the master acknowledges on, and dies before it has noticed: its slave may take over by
    leave, and lacks just that."""
    changes = {"replication": "async", "failover_allow_data_loss": True, "failover_max_lag": 1_000_000}
    with FaultNetwork(BROKERS) as network:
        shard = master_slave(tmp_path, BROKERS, place=network, **LEASE, **changes)
        try:
            network.run(shard.start)
            network.run(lambda: _lose_what_the_slave_lacks(shard, network))
        finally:
            shard.close()


def _lose_what_the_slave_lacks(shard: MasterSlaveProcesses, network: FaultNetwork) -> None:
    master = shard.leader()
    epoch = shard.view(master).epoch
    create_topic(shard.kafka, TOPIC)
    shard.wait_until(lambda: _named_in_lease(shard, master) == BROKERS, "slave in the Lease", 30)
    logs = [broker.log.stat().st_size for broker in shard.brokers]
    acked = _write(shard, range(100))
    for one, other in ((0, 1), (1, 0)):
        network.cut(one, other)
    alone = _write(shard, range(100, 200))
    shard.kill(master)
    shard.wait_until(lambda: shard.leader() == 1 - master, "takeover by the slave", 30)
    # Not before: the kernel goes on sending what a dead process has written, and would bring the slave what it lacks.
    network.heal()
    after = _write(shard, range(200, 250))
    shard.start()
    new = [broker.log.read_bytes()[size:] for broker, size in zip(shard.brokers, logs, strict=True)]
    told = find_losses(shard, TOPIC, epoch, new)
    assert len(told.epochs) == 1
    assert (
        "whatever it acknowledged after that" in shard.ask(shard.leader(), "/v1/broker")["election"]["loss"]
    )
    found = read_back(shard.kafka, TOPIC)
    everything = [*acked, *alone, *after]
    account = settle(
        Records(len(everything), everything, found, found),
        Ending.LOSES,
        told._replace(acked=len(acked) + len(alone)),
    )
    assert account.wrong == told.wrong == ()
    assert account.gone == len(alone) == account.verdict.lost
    shard.agreed()


def _named_in_lease(shard: MasterSlaveProcesses, ordinal: int) -> int:
    return len(shard.ask(ordinal, "/v1/broker")["election"]["inSync"])


def _write(shard: MasterSlaveProcesses, numbers: range) -> list[Place]:
    """Places of messages that were all acknowledged."""
    acked: list[Place] = []

    def delivered(error: Any, message: Any) -> None:
        assert error is None, error
        acked.append(Place(int(message.value()), message.partition(), message.offset()))

    producer = Producer({"bootstrap.servers": shard.kafka, "acks": "all", "log_level": 0, **CONNECTION})
    for number in numbers:
        producer.produce(TOPIC, str(number), partition=number % PARTITIONS, on_delivery=delivered)
    assert producer.flush(FLUSH_TIMEOUT_S) == 0
    return acked
