"""The leader is killed in the middle of a load of leases: nothing is lost, nothing is in both places, nobody shares a message."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from penstock.testing.master_slave_processes import MasterSlaveProcesses
from penstock.testing.queue_client import NoAnswerError, QueueClient, RefusedError, call
from penstock.testing.shard_processes import ShardProcesses
from queue_ledger import judge
from queue_load import POISON, Members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

TOPIC, GROUP, DEAD = "jobs", "workers", "workers.dlq"
MESSAGES = 3_000
POISONED_EVERY = 50
PARTITIONS = 4
MEMBERS = 4
KILLS = 2
TIMEOUT_S = 90.0
CONFIG = {"log.segment.bytes": 8 << 20, "min.insync.replicas": 2}


@pytest.fixture(params=["Raft", "MasterSlave"])
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ShardProcesses]:
    if request.param == "Raft":
        made = ShardProcesses(tmp_path, config=CONFIG)
    else:
        # With both of its two brokers in sync it is written; when one is lost, the other goes on alone.
        made = MasterSlaveProcesses(tmp_path, config={"log.segment.bytes": 8 << 20, "replication": "sync"})
    with made:
        yield made


def patiently(what: Callable[[], Any]) -> Any:
    """Asks again while nobody leads."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return what()
        except (RefusedError, NoAnswerError) as error:
            if time.monotonic() > deadline or (isinstance(error, RefusedError) and error.status < 500):
                raise
            time.sleep(0.1)


def until(done: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def produced(http: str) -> list[str]:
    """The values of all messages, some of which nobody can work with."""
    values = [f"{POISON if number % POISONED_EVERY == 0 else 'job'}-{number}" for number in range(MESSAGES)]
    for first in range(0, MESSAGES, 500):
        some = [{"value": value, "key": value} for value in values[first : first + 500]]
        patiently(lambda some=some: call(http, f"/v1/topics/{TOPIC}/messages", {"messages": some}))  # type: ignore[misc]
    return values


def dead_letters(http: str) -> list[str]:
    found: list[str] = []
    offset = 0
    while True:
        where = f"/v1/topics/{DEAD}/partitions/0/messages?offset={offset}&limit=1000"
        try:
            page = patiently(lambda where=where: call(http, where))  # type: ignore[misc]
        except RefusedError:
            return found
        found += [message["value"] for message in page["messages"]]
        if page["nextOffset"] == offset or page["nextOffset"] >= page["highWatermark"]:
            return found
        offset = page["nextOffset"]


def test_the_leader_is_killed_under_members(shard: ShardProcesses) -> None:
    clients = [QueueClient(broker.http, broker.admin, GROUP) for broker in shard.brokers]
    call(clients[0].admin, "/v1/topics", {"name": TOPIC, "partitions": PARTITIONS})
    values = produced(clients[0].http)
    patiently(
        lambda: clients[0].declare(
            TOPIC, retry={"maxDeliveries": 4, "backoff": {"initialMs": 100, "maxMs": 200, "factor": 1}}
        )
    )
    with Members(clients, MEMBERS, seed=7) as members:
        for kill in range(KILLS):
            goal = MESSAGES * (kill + 1) // (KILLS + 2)
            until(lambda goal=goal: members.done >= goal, lambda: f"{members.done} done")  # type: ignore[misc]
            leader = shard.leader_with_heir()
            shard.kill(leader)
            before = members.done
            until(lambda: members.done > before + 50, lambda: f"{before} done, then {members.done}")  # noqa: B023
            shard.start()
        until(
            lambda: patiently(clients[0].view)["lag"] == 0,
            lambda: f"{patiently(clients[0].view)} {members.refused}",
        )
    assert not members.failures
    poisoned = [value for value in values if value.startswith(POISON)]
    until(lambda: patiently(clients[0].view)["queue"]["deadLetters"] >= len(poisoned), lambda: "dead letters")
    buried = list[str]()

    def settled() -> bool:
        buried[:] = dead_letters(clients[0].http)
        return set(poisoned) <= set(buried)

    until(settled, lambda: f"dead letters missing: {set(poisoned) - set(buried)}")
    verdict = judge(values, members.deliveries, buried)
    print(
        f"{len(members.deliveries)} deliveries of {MESSAGES} messages, {verdict.redelivered} of them again,"
        f" {len(buried)} dead letters, {members.unanswered} requests without an answer: {members.refused}"
    )
    assert verdict.good, verdict
    # Whoever forgot a message four times made it a dead letter too.
    assert patiently(clients[0].view)["queue"]["inFlight"] == 0
    shard.agreed()
