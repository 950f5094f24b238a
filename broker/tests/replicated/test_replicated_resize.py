"""More brokers, and fewer, under load: nobody is restarted for it, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client_peer import create_topic
from driver_confluent import ConfluentDriver
from penstock.testing.managed_process import ServerError
from penstock.testing.shard_processes import ShardProcesses
from replicated_load import check, load_through

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.clients

CONFIG = {"log.segment.bytes": 8 << 20, "min.insync.replicas": 2}


@pytest.fixture
def three(tmp_path: Path) -> Iterator[ShardProcesses]:
    """Three brokers that were started as three, so that their files say so whatever comes."""
    with ShardProcesses(tmp_path, config=CONFIG) as shard:
        yield shard


def starts(shard: ShardProcesses) -> list[str]:
    return [shard.ask(ordinal, "/v1/broker")["startedAt"] for ordinal in range(3)]


def test_three_become_five_and_three_again_while_messages_come(three: ShardProcesses) -> None:
    before = starts(three)

    def resize() -> None:
        three.resize(5)
        assert three.hand_over(4) == 4, "a newcomer counts like any other"
        three.resize(3)

    outcome = load_through(three, ConfluentDriver(), resize, per_second=250)
    check(outcome, "3-5-3")
    print(three.agreed().line())
    assert starts(three) == before, "nobody was restarted"
    assert sorted(three.view(three.leader()).members) == [0, 1, 2]


def test_volumes_of_before_come_back_as_learners_and_are_level_in_the_end(three: ShardProcesses) -> None:
    three.resize(5)
    storage = three.ask(4, "/v1/broker")["storageId"]
    three.resize(3)
    check(load_through(three, ConfluentDriver(), lambda: None), "three, two volumes aside")
    three.resize(5)
    assert three.ask(4, "/v1/broker")["storageId"] == storage
    print(three.agreed().line())
    # The two count: with one of them, the shard can do without two of the first three.
    for ordinal in (0, 1):
        three.kill(ordinal)
    assert three.leader() in (2, 3, 4)
    three.start()
    three.agreed()


def test_a_broker_that_has_left_neither_disturbs_nor_comes_back(three: ShardProcesses) -> None:
    three.resize(5)
    three.resize(3)
    leader, epoch = three.leader(), three.view(three.leader()).epoch
    gone = three.brokers[4]
    gone.launch_only()
    # What its log tells of its end may not be known to be committed there.
    apart = (
        "the shard is to have 3 brokers, and this one is not among them",
        "this broker is no member of it",
    )
    three.wait_until(
        lambda: any(why in not_ready(three, 4) for why in apart),
        "reason not to be ready of the one that left",
    )
    check(load_through(three, ConfluentDriver(), lambda: None), "one that left runs beside it")
    view = three.view(leader)
    assert (view.leader, view.epoch, sorted(view.members)) == (leader, epoch, [0, 1, 2])
    gone.terminate()


def test_three_become_one_and_three_again(tmp_path: Path) -> None:
    with ShardProcesses(tmp_path, config={"log.segment.bytes": 8 << 20}) as shard:
        shard.hand_over(2)

        def resize() -> None:
            shard.resize(1)
            shard.resize(3)

        check(load_through(shard, ConfluentDriver(), resize, per_second=250), "3-1-3")
        shard.agreed()


def test_fewer_copies_than_a_topic_needs_are_refused_until_it_needs_fewer(three: ShardProcesses) -> None:
    three.resize(5)
    create_topic(three.kafka, 1, {"min.insync.replicas": "4"})
    three.ask_for(3)
    leader = three.leader()

    def refused() -> bool:
        (shard,) = three.ask(leader, "/v1/cluster")["shards"]
        # With five it may be refused for a moment too, while one of them is late.
        return (
            shard["leavingRefused"]
            and "min.insync.replicas=4" in shard["leaving"]
            and len(three.view(leader).members) == 4
        )

    three.wait_until(refused, "refusal with four, which are as many as it takes")
    three.ask_for(5)
    three.wait_whole()


def not_ready(shard: ShardProcesses, ordinal: int) -> str:
    try:
        shard.ask(ordinal, "/readyz")
    except ServerError as error:
        return str(error)
    return ""
