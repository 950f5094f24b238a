"""Lease and acknowledge, per second: `python -m bench.queues [--messages N] [--batch N] [--members N] [--flush sync|async]`.

Twice: with the use-cases called in the broker's own process (the service layer), and over HTTP from a process beside it.
Every message is leased once, in batches, and acknowledged by its receipt before the member leases again; all of it is
committed to the log. There is no other broker to compare with yet.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from penstock.codec.records import Record, build_batch
from penstock.config.broker_config import load_config
from penstock.process.assembly import Broker
from penstock.service.api import NewTopic, ProduceBatches
from penstock.service.context import RequestContext
from penstock.service.group_api import StartPosition
from penstock.service.queue_api import LeaseRequest
from penstock.testing.process import BrokerProcess

TOPIC, GROUP = "bench", "bench"
PARTITIONS = 8
VALUE = b"x" * 100
PRODUCE_BATCH = 500
CONTEXT = RequestContext("bench", "bench")

# Leases and acknowledges up to so many; how many it was.
Round = Callable[[int], Awaitable[int]]


class Effort(NamedTuple):
    """How much there is to do, how many at a time, and by how many members."""

    messages: int
    batch: int
    members: int
    flush: str


async def work(effort: Effort, one: Round) -> float:
    """Messages per second until all are done."""
    left = effort.messages

    async def member() -> None:
        nonlocal left
        while left > 0:
            # In two steps: what is left changes while this waits.
            done = await one(effort.batch)
            left -= done

    begun = time.perf_counter()
    await asyncio.gather(*(member() for _ in range(effort.members)))
    return effort.messages / (time.perf_counter() - begun)


async def at_service(effort: Effort, folder: Path) -> float:
    """In the broker's own process."""

    def fail(error: BaseException) -> None:
        raise AssertionError("the broker's log failed") from error

    settings = folder / "broker.yaml"
    settings.write_text(f"flush.policy: {effort.flush}\n")
    config = load_config(folder / "data", config_file=settings, listen=["http=127.0.0.1:0"])
    broker = Broker(config, fail)
    await broker.start()
    await broker.topics.create_topics(CONTEXT, [NewTopic(TOPIC, PARTITIONS)])
    batch = build_batch([Record(None, VALUE, 1)] * PRODUCE_BATCH)
    for number in range(effort.messages // PRODUCE_BATCH):
        item = ProduceBatches(TOPIC, number % PARTITIONS, memoryview(batch))
        await broker.data.produce(CONTEXT, [item], -1, 10_000)
    await broker.groups.declare(CONTEXT, GROUP, "queue", [TOPIC], StartPosition(at="earliest"))

    async def one(most: int) -> int:
        leased = await broker.queues.lease(CONTEXT, LeaseRequest(GROUP, most, 100))
        receipts = [message.receipt for message in leased.messages]
        if receipts:
            await broker.queues.acknowledge(CONTEXT, GROUP, receipts)
        return len(receipts)

    rate = await work(effort, one)
    await broker.stop()
    return rate


async def over_http(effort: Effort, folder: Path) -> float:
    """From this process to a broker in one of its own."""
    with BrokerProcess(folder, config={"flush.policy": effort.flush}) as broker:
        async with aiohttp.ClientSession() as session:

            async def call(method: str, url: str, body: object) -> Any:
                async with session.request(method, url, json=body) as answer:
                    answer.raise_for_status()
                    return await answer.json()

            await call("POST", f"{broker.admin}/v1/topics", {"name": TOPIC, "partitions": PARTITIONS})
            messages = [{"value": VALUE.decode()}] * PRODUCE_BATCH
            for _ in range(effort.messages // PRODUCE_BATCH):
                await call("POST", f"{broker.http}/v1/topics/{TOPIC}/messages", {"messages": messages})
            body = {"mode": "queue", "topics": [TOPIC], "start": {"at": "earliest"}}
            await call("PUT", f"{broker.admin}/v1/groups/{GROUP}", body)
            group = f"{broker.http}/v1/groups/{GROUP}"

            async def one(most: int) -> int:
                leased = await call("POST", f"{group}/lease", {"max": most, "waitMs": 100})
                receipts = [message["receipt"] for message in leased["messages"]]
                if receipts:
                    await call("POST", f"{group}/acknowledge", {"receipts": receipts})
                return len(receipts)

            return await work(effort, one)


def main() -> None:
    """Prints both rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--flush", choices=("sync", "async"), default="sync")
    given = parser.parse_args()
    effort = Effort(given.messages, given.batch, given.members, given.flush)
    print(f"{effort.messages} messages of {len(VALUE)} B, {effort}")
    for name, run in (("at the service layer", at_service), ("over HTTP", over_http)):
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            rate = asyncio.run(run(effort, Path(folder)))
        print(f"{name}: {rate:,.0f} messages leased and acknowledged per second")


if __name__ == "__main__":
    main()
