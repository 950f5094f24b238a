"""The leader hangs, stops or hands over in the middle of a load: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from client_matrix import every_client, scenario
from driver_confluent import ConfluentDriver
from replicated_load import MESSAGES, check, load_through

if TYPE_CHECKING:
    from client_driver import Driver
    from penstock.testing.shard_processes import ShardProcesses

# What a client library adds to a hand-over: it notices by a refusal, asks for the leader, and sends again.
STOP_SILENCE_MS_MAX = 1_000


@scenario("leadership handed over in the middle")
@every_client()
def test_hand_over(driver: Driver, shard: ShardProcesses) -> None:
    before = shard.leader()
    outcome = load_through(shard, driver, shard.hand_over)
    assert shard.leader() != before
    check(outcome, f"hand-over, {driver.name}")


@pytest.mark.clients
def test_the_leader_hands_over_when_it_is_stopped(shard: ShardProcesses) -> None:
    leader = shard.leader()
    outcome = load_through(shard, ConfluentDriver(), shard.brokers[leader].terminate)
    assert shard.brokers[leader].exit_code == 0
    check(outcome, "SIGTERM of the leader")
    assert outcome.silence_ms < STOP_SILENCE_MS_MAX


@pytest.mark.clients
def test_a_leader_that_hangs_is_replaced_and_follows_afterwards(shard: ShardProcesses) -> None:
    leader = shard.leader()

    def hang() -> None:
        shard.pause(leader)
        try:
            shard.leader(other_than=leader)
        finally:
            # The client waits for what it asked this broker as long as the connection is open.
            shard.resume(leader)

    check(load_through(shard, ConfluentDriver(), hang), "leader stopped with SIGSTOP")
    shard.wait_whole()
    assert shard.leader() != leader


@pytest.mark.clients
def test_all_brokers_killed_at_once(shard: ShardProcesses) -> None:
    def kill_all() -> None:
        for broker in shard.brokers:
            broker.send_signal(signal.SIGKILL)
        for ordinal in range(shard.replicas):
            shard.kill(ordinal)
        shard.start()

    check(load_through(shard, ConfluentDriver(), kill_all), "all brokers killed")


@pytest.mark.clients
def test_brokers_restarted_one_after_the_other(shard: ShardProcesses) -> None:
    """As the operator does it: followers first, each only when the shard can spare it."""

    def roll() -> None:
        for ordinal in [*shard.followers(), shard.leader()]:
            shard.restart(ordinal)
            shard.wait_whole()

    check(load_through(shard, ConfluentDriver(), roll), f"rolling restart, {MESSAGES} messages")
