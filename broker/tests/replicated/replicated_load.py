"""A load that a fault comes into: the books, the longest time without an acknowledged write, what a reader saw."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, NamedTuple

from book import judge
from client_driver import ThreadedLoad, eventually
from client_peer import create_topic
from penstock.testing.wire_probe import end_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from client_driver import Ack, Driver
    from penstock.testing.ledger import Verdict
    from penstock.testing.shard_processes import ShardProcesses

PARTITIONS = 3
MESSAGES = 3000
PER_SECOND = 1000
FAULT_AFTER = 800
START_TIMEOUT_S = 40.0
LOAD_TIMEOUT_S = 60.0


class Outcome(NamedTuple):
    """`silence_ms` is the longest time without an acknowledgement from the fault on, -1 where the client's process does
    not tell when they came."""

    verdict: Verdict
    acks: Sequence[Ack]
    stored: int
    silence_ms: int

    def line(self, name: str) -> str:
        """One line for people."""
        silence = f"{self.silence_ms} ms" if self.silence_ms >= 0 else "not told"
        return f"{self.verdict.line(name)} longest silence: {silence}"


def load_through(
    shard: ShardProcesses, driver: Driver, fault: Callable[[], None], topic: str | None = None
) -> Outcome:
    """Sends MESSAGES idempotently with acks=all; `fault` happens in the middle of it, and the shard must have a leader in
    the end. Reads everything back."""
    topic = topic or create_topic(shard.kafka, PARTITIONS)
    load = driver.start_load(shard.kafka, topic, MESSAGES, per_second=PER_SECOND)
    eventually(
        lambda: load.acked >= FAULT_AFTER,
        START_TIMEOUT_S,
        lambda: f"{FAULT_AFTER} acknowledged, now {load.acked}",
    )
    moment = time.monotonic()
    fault()
    acks = load.finish(LOAD_TIMEOUT_S)
    silence = _silence_ms(load.ack_times, moment) if isinstance(load, ThreadedLoad) else -1
    leader = shard.brokers[shard.leader()].kafka
    stored = sum(end_offsets(leader, topic, PARTITIONS).values())
    # kafka-python gives up when the broker that it happens to ask first is not there.
    shard.start()
    receipts = driver.read_all(shard.kafka, topic, stored)
    return Outcome(judge(MESSAGES, acks, receipts), acks, stored, silence)


def check(outcome: Outcome, name: str) -> None:
    """Nothing acknowledged is lost, moved, out of order or doubled, and the client gave nothing up."""
    print(outcome.line(name))
    verdict = outcome.verdict
    assert verdict.good, verdict.examples
    assert (verdict.acked, verdict.received, verdict.duplicated) == (MESSAGES, MESSAGES, 0), verdict


def _silence_ms(times: Sequence[float], moment: float) -> int:
    """The longest time between acknowledgements of which the later one came after `moment`."""
    pairs = itertools.pairwise(times)
    return int(1000 * max((after - before for before, after in pairs if after >= moment), default=0))
