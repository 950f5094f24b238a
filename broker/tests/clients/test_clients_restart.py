"""The broker is killed with SIGKILL in the middle of a load and comes back on the same port: nothing is lost.

The producers are idempotent, so nothing may be doubled either; a consumer that was reading goes on reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from book import judge
from client_driver import eventually
from client_matrix import every_client, scenario
from client_peer import create_topic
from penstock.testing.wire_probe import end_offsets

if TYPE_CHECKING:
    from client_driver import Driver
    from client_peer import Peer

PARTITIONS = 3
MESSAGES = 3000
PER_SECOND = 1000
KILL_AFTER = 800
LOAD_TIMEOUT_S = 80.0


@scenario("broker killed and restarted in the middle")
@every_client()
def test_restart(driver: Driver, restartable: Peer, group: str) -> None:
    bootstrap = restartable.kafka
    topic = create_topic(bootstrap, PARTITIONS)
    member = driver.join(bootstrap, topic, group)
    try:
        load = driver.start_load(bootstrap, topic, MESSAGES, per_second=PER_SECOND)
        eventually(
            lambda: load.acked >= KILL_AFTER, 40, lambda: f"{KILL_AFTER} acknowledged, now {load.acked}"
        )
        restartable.kill()
        restartable.restart()
        acks = load.finish(LOAD_TIMEOUT_S)
        stored = sum(end_offsets(bootstrap, topic, PARTITIONS).values())
        receipts = driver.read_all(bootstrap, topic, stored)
        verdict = judge(MESSAGES, acks, receipts)
        assert verdict.good, verdict.examples
        assert (verdict.acked, verdict.received, verdict.duplicated) == (MESSAGES, MESSAGES, 0)
        eventually(
            lambda: len({(one.partition, one.offset) for one in member.receipts()}) >= stored,
            LOAD_TIMEOUT_S,
            lambda: f"the member that read all along has all {stored}, it has {len(member.receipts())}",
        )
        verdict = judge(MESSAGES, acks, member.receipts())
        assert verdict.good, verdict.examples
    finally:
        member.leave()
