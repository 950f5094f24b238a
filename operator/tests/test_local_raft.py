"""Three real brokers under `penstock up`, from the example file: killed, rolled, scaled, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from confluent_kafka import Consumer, Producer

from harness import eventually
from up_process import Up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.clients
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "raft.yaml"
TOPIC = "orders"
NAMES = [f"raft-0-{ordinal}" for ordinal in range(3)]
DELIVERY_SECONDS_MAX = 60


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    made = Up(tmp_path, EXAMPLE.read_text(), "raft")
    made.file.write_text(made.template)
    try:
        await made.start()
        yield made
    finally:
        if made.process is not None and made.process.returncode is None:
            await made.stop()


class Load:
    """A producer that writes numbers until it is stopped, and keeps those that were acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self.acknowledged: list[int] = []
        self.errors: list[str] = []
        self.stopped = False
        self._bootstrap = bootstrap

    def run(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "delivery.timeout.ms": DELIVERY_SECONDS_MAX * 1000,
                "log_level": 0,
            }
        )
        number = 0
        while not self.stopped:
            producer.produce(TOPIC, str(number).encode(), on_delivery=self._delivered(number))
            number += 1
            producer.poll(0.002)
        assert producer.flush(DELIVERY_SECONDS_MAX) == 0

    def _delivered(self, number: int) -> Any:
        def delivered(error: Any, _: Any) -> None:
            if error is None:
                self.acknowledged.append(number)
            else:
                self.errors.append(str(error))

        return delivered

    async def has_more(self, count: int) -> None:
        """Wait until so many more messages were acknowledged than now."""
        goal = len(self.acknowledged) + count

        async def enough() -> bool:
            return len(self.acknowledged) >= goal

        await eventually(enough, f"{count} more acknowledged messages")


def consumed(bootstrap: str, count: int) -> list[int]:
    """What the example's group reads, until there are so many messages."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "billing",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([TOPIC])
    found: list[int] = []
    deadline = time.monotonic() + DELIVERY_SECONDS_MAX
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        value = message.value() if message is not None and message.error() is None else None
        if value is not None:
            found.append(int(value))
    consumer.close()
    return found


async def until_whole(up: Up, leader_is_not: str = "", names: list[str] = NAMES) -> dict[str, Any]:
    """Wait until these brokers, and no others, run and are in sync; returns the shard."""

    async def whole() -> Any:
        status = up.status()
        if not status["admin"] or sorted(status["pids"]) != names:
            return None
        try:
            (shard,) = (await up.admin("/v1/cluster"))["shards"]
        except aiohttp.ClientError:
            return None  # it is just going
        in_sync = [member["name"] for member in shard["members"] if member["inSync"]]
        leads = shard["leader"] == status["leader"] != leader_is_not
        return shard if leads and sorted(in_sync) == names else None

    found: dict[str, Any] = await eventually(whole, f"{len(names)} brokers in sync; {up.log}")
    return found


async def test_three_brokers_lose_their_leader_and_are_rolled_under_load(up: Up) -> None:
    first = await until_whole(up)
    status = up.status()
    assert len(status["bootstrap"].split(",")) == 3
    load = Load(status["bootstrap"])
    running = asyncio.create_task(asyncio.to_thread(load.run))
    try:
        await load.has_more(200)

        # The leader dies: another one leads in a newer epoch, and the dead one comes back and catches up.
        killed = first["leader"]
        pid = status["pids"][killed]
        os.kill(pid, signal.SIGKILL)
        second = await until_whole(up, leader_is_not=killed)
        assert second["epoch"] > first["epoch"]
        assert up.status()["pids"][killed] != pid
        await load.has_more(200)

        # A restart token: one broker after the other is restarted, the leader last.
        before = up.status()["pids"]
        annotated = up.template.replace(
            "  name: raft\nspec:", '  name: raft\n  annotations: {penstock.io/restart: "monday"}\nspec:'
        )
        assert annotated != up.template
        up.file.write_text(annotated)

        async def rolled() -> bool:
            pids = up.status()["pids"]
            return pids.keys() == before.keys() and all(pids[name] != before[name] for name in NAMES)

        await eventually(rolled, f"three new processes; {up.log}")
        await until_whole(up)
        said = up.log.read_text()
        words = "is restarted because its listeners or its restart token changed"
        order = [
            name for line in said.splitlines() for name in NAMES if line.endswith(f"raft: {name} {words}")
        ]
        assert sorted(order) == NAMES
        assert order[-1] == second["leader"]
        assert f"{second['leader']} hands over to" in said
        await load.has_more(200)
    finally:
        load.stopped = True
        await running
    assert load.errors == []
    found = await asyncio.to_thread(consumed, up.status()["bootstrap"], len(load.acknowledged))
    assert sorted(found) == sorted(load.acknowledged)
    assert await up.stop() == 0


async def test_a_stopped_shard_is_there_again_with_its_messages(up: Up) -> None:
    await until_whole(up)
    load = Load(up.status()["bootstrap"])
    running = asyncio.create_task(asyncio.to_thread(load.run))
    await load.has_more(100)
    load.stopped = True
    await running
    assert await up.stop() == 0
    await up.start()
    await until_whole(up)
    found = await asyncio.to_thread(consumed, up.status()["bootstrap"], len(load.acknowledged))
    assert sorted(found) == sorted(load.acknowledged)


async def test_an_edited_number_of_brokers_is_followed_under_load_and_restarts_nobody(up: Up) -> None:
    await until_whole(up)
    five = [f"raft-0-{ordinal}" for ordinal in range(5)]
    before = up.status()["pids"]
    load = Load(up.status()["bootstrap"])
    running = asyncio.create_task(asyncio.to_thread(load.run))
    try:
        await load.has_more(200)
        up.file.write_text(up.template.replace("replicas: 3", "replicas: 5"))
        await until_whole(up, names=five)
        await load.has_more(200)
        up.file.write_text(up.template)
        await until_whole(up)
        assert up.status()["pids"] == before
        await load.has_more(200)
        alone = up.template.replace("replicas: 3", "replicas: 1").replace("minInSync: 2", "minInSync: 1")
        up.file.write_text(alone)
        await until_whole(up, names=NAMES[:1])
        await load.has_more(200)
    finally:
        load.stopped = True
        await running
    assert load.errors == []
    said = up.log.read_text()
    assert "shard 0 goes up to 5 brokers, not 3 as" in said
    assert "raft-0-4 has left and is stopped; its data stays in" in said
    found = await asyncio.to_thread(consumed, up.status()["bootstrap"], len(load.acknowledged))
    assert sorted(found) == sorted(load.acknowledged)
    assert up.status()["pids"] == {NAMES[0]: before[NAMES[0]]}
    assert await up.stop() == 0
