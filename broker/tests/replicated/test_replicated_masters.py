"""Mode MasterSlave with real processes: the master is killed, hangs, or loses its Lease, under a producer and a consumer.

Nothing acknowledged is lost under `sync`; under `async` what is lost is what was said. The whole matrix is
`python -m bench.availability`.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from client_peer import create_topic
from driver_confluent import ConfluentDriver
from penstock.process.run import EXIT_NOT_MASTER
from penstock.testing.availability.faults import Absence
from penstock.testing.availability.matrix import Cause, Cell
from penstock.testing.availability.modes import MODES, master_slave
from penstock.testing.availability.trial import Effort, run_trial
from penstock.testing.managed_process import ServerError
from replicated_load import check, load_through

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.testing.master_slave_processes import MasterSlaveProcesses

pytestmark = pytest.mark.clients

SEED = 11
# Long enough for machines that are busy with other things, short enough for a test.
LEASE: dict[str, Any] = {"lease_duration_ms": 3_000, "lease_renew_interval_ms": 1_000}
EFFORT = Effort(ordinary=300, flow=200, absence=Absence(paused_s=5.0, gone_s=0.5))
SYNC, ASYNC = MODES["MasterSlave-sync"], MODES["MasterSlave-async"]
DEGRADED_TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterSlaveProcesses]:
    with master_slave(tmp_path_factory.mktemp("pair"), 2, **LEASE) as shard:
        yield shard


def _run(shard: MasterSlaveProcesses, cell: Cell) -> None:
    """Also compares the replicas in the end."""
    outcome = run_trial(shard.start(), SYNC, cell, f"{cell.cause.word}-{cell.hit}", Random(SEED), EFFORT)
    print(outcome.line())
    assert outcome.account.wrong == ()
    assert outcome.account.verdict.lost == 0


def test_a_master_that_is_killed_loses_nothing(pair: MasterSlaveProcesses) -> None:
    _run(pair, Cell(Cause.CRASH, 1, 2))


def test_a_master_that_hangs_is_replaced_acknowledges_nothing_more_and_ends_by_itself(
    pair: MasterSlaveProcesses,
) -> None:
    master = pair.start().leader()
    before = len(pair.exit_codes(master))
    _run(pair, Cell(Cause.PAUSE, 1, 2))
    assert pair.exit_codes(master)[before:] == [EXIT_NOT_MASTER]
    assert pair.leader() != master


def test_both_killed_and_a_master_that_lost_its_volume(pair: MasterSlaveProcesses) -> None:
    _run(pair, Cell(Cause.CRASH, 2, 2))
    _run(pair, Cell(Cause.WIPE, 1, 2))


def test_leadership_handed_over_and_a_master_that_is_stopped(pair: MasterSlaveProcesses) -> None:
    """Neither ends as one that lost its Lease."""
    pair.start()
    before = {ordinal: len(pair.exit_codes(ordinal)) for ordinal in range(2)}

    def hand_over() -> None:
        master = pair.leader()
        assert pair.hand_over() != master

    check(load_through(pair, ConfluentDriver(), hand_over), "hand-over, MasterSlave")
    pair.wait_whole()
    master = pair.leader()
    check(load_through(pair, ConfluentDriver(), pair.brokers[master].terminate), "SIGTERM of the master")
    assert pair.leader() != master
    pair.start()
    pair.agreed()
    codes = [code for ordinal in range(2) for code in pair.exit_codes(ordinal)[before[ordinal] :]]
    assert codes == [0]


def test_min_in_sync_of_two_refuses_writes_until_the_slave_is_back_or_the_setting_is_lowered(
    pair: MasterSlaveProcesses,
) -> None:
    pair.start()
    topic = create_topic(pair.kafka, 1)
    master = pair.leader()
    _set_min_in_sync(pair, "2")
    assert _refusal(pair, topic) is None
    pair.kill(1 - master)
    pair.wait_until(lambda: _refusal(pair, topic) is not None, "refusal", DEGRADED_TIMEOUT_S)
    assert _refusal(pair, topic) == KafkaError.NOT_ENOUGH_REPLICAS
    _set_min_in_sync(pair, "1")
    assert _refusal(pair, topic) is None
    assert pair.leader() == master
    pair.start()
    pair.agreed()


def _set_min_in_sync(shard: MasterSlaveProcesses, value: str) -> None:
    admin = AdminClient({"bootstrap.servers": shard.kafka, "log_level": 0})
    resource = ConfigResource(ConfigResource.Type.BROKER, str(shard.leader()))
    resource.add_incremental_config(
        ConfigEntry("min.insync.replicas", value, incremental_operation=AlterConfigOpType.SET)
    )
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(DEGRADED_TIMEOUT_S)


def _refusal(shard: MasterSlaveProcesses, topic: str) -> int | None:
    """The code with which a write is refused; None: it is not."""
    found: list[Any] = []
    settings = {"bootstrap.servers": shard.kafka, "acks": 1, "retries": 0, "log_level": 0}
    producer = Producer(settings)
    producer.produce(topic, b"one", on_delivery=lambda error, _: found.append(error))
    producer.flush(DEGRADED_TIMEOUT_S)
    (error,) = found
    return None if error is None else error.code()


def test_what_is_lost_under_async_is_what_was_said(tmp_path: Path) -> None:
    changes = {"replication": "async", "failover_allow_data_loss": True, "failover_max_lag": 1_000_000}
    with master_slave(tmp_path, 2, **LEASE, **changes) as shard:
        outcome = run_trial(shard, ASYNC, Cell(Cause.CRASH, 1, 2), "lossy", Random(SEED), EFFORT)
        print(outcome.line())
        assert outcome.account.wrong == ()
        election = shard.ask(shard.leader(), "/v1/broker")["election"]
        assert election["lossEpoch"] == election["epoch"] > 1
        assert "whatever it acknowledged after that" in election["loss"]


def test_without_leave_to_lose_anything_an_async_slave_waits_for_its_master(tmp_path: Path) -> None:
    with master_slave(tmp_path, 2, **LEASE, replication="async") as shard:
        topic = create_topic(shard.kafka, 1)
        master = shard.wait_whole()
        slave = 1 - master
        named = "the slave's name in the Lease"
        shard.wait_until(lambda: len(_election(shard, slave)["inSync"]) == 2, named, DEGRADED_TIMEOUT_S)
        shard.kill(master)
        shard.wait_until(lambda: _reason(shard, slave) == "DataLossNotAllowed", "reason", DEGRADED_TIMEOUT_S)
        assert "or set failover.allowDataLoss" in _election(shard, slave)["sentence"]
        assert any("failover.allowDataLoss" in sentence for sentence in shard.reasons(slave))
        shard.start()
        assert shard.leader() == master
        assert shard.ask(master, f"/v1/topics/{topic}")["name"] == topic
        shard.agreed()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("LeaseMissing", "there is no Lease of this shard, which is never taken for a free one"),
        ("LeaseUnreadable", "is damaged"),
    ],
)
def test_a_lease_that_is_gone_or_cannot_be_read_is_never_taken_for_a_free_one(
    tmp_path: Path, reason: str, words: str
) -> None:
    with master_slave(tmp_path, 2, **LEASE) as shard:
        content = shard.lease.read_bytes()
        if reason == "LeaseMissing":
            shard.lease.unlink()
        else:
            shard.lease.write_bytes(content[: len(content) // 2])
        # The master cannot renew it and ends, and then nobody leads.
        shard.wait_until(
            lambda: shard.running == [0, 1] and all(_reason(shard, n) == reason for n in range(2)),
            f"{reason} at both brokers",
            DEGRADED_TIMEOUT_S,
        )
        for ordinal in range(2):
            assert words in _election(shard, ordinal)["sentence"]
            assert any(words in sentence for sentence in shard.reasons(ordinal))
        # Whoever has the record puts it back: the Lease runs out, and one of the two that were in sync leads.
        shard.lease.write_bytes(content)
        shard.wait_whole()
        shard.agreed()


def _election(shard: MasterSlaveProcesses, ordinal: int) -> dict[str, Any]:
    found: dict[str, Any] = shard.ask(ordinal, "/v1/broker")["election"]
    return found


def _reason(shard: MasterSlaveProcesses, ordinal: int) -> str:
    """Why that broker does not lead; empty while it is not up."""
    if not shard.brokers[ordinal].note_ready():
        return ""
    try:
        return str(_election(shard, ordinal)["reason"])
    except ServerError:
        return ""
