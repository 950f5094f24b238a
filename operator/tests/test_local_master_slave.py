"""Two real brokers under `penstock up` in mode MasterSlave: the master is killed, and given up on purpose; nothing acknowledged
is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from harness import eventually
from test_local_raft import Load, consumed, until_whole
from up_process import Up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.clients
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "master-slave.yaml"
NAMES = [f"pair-0-{ordinal}" for ordinal in range(2)]


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    made = Up(tmp_path, EXAMPLE.read_text(), "pair")
    made.file.write_text(made.template)
    try:
        await made.start()
        yield made
    finally:
        if made.process is not None and made.process.returncode is None:
            await made.stop()


async def replaced(up: Up, leader: str) -> None:
    """Wait until the other broker leads, by its own word."""
    (other,) = (name for name in NAMES if name != leader)
    url = f"http://{up.status()['brokers'][other]['admin']}/v1/cluster"
    async with aiohttp.ClientSession() as session:

        async def leads() -> bool:
            async with session.get(url) as answer:
                found: str = (await answer.json())["shards"][0]["leader"]
                return found == other

        await eventually(leads, f"{other} as leader; {up.log}")


@pytest.mark.timeout(300)
async def test_two_brokers_lose_their_master_and_are_rolled_under_load(up: Up) -> None:
    first = await until_whole(up, names=NAMES)
    load = Load(up.status()["bootstrap"])
    running = asyncio.create_task(asyncio.to_thread(load.run))
    try:
        await load.has_more(200)

        # The master dies. Nobody waits until its Lease has run out, and it comes back as the slave.
        killed = first["leader"]
        os.kill(up.status()["pids"][killed], signal.SIGKILL)
        second = await until_whole(up, leader_is_not=killed, names=NAMES)
        assert second["epoch"] > first["epoch"]
        assert "the master's process ended, and its Lease is free" in up.log.read_text()
        await load.has_more(200)

        # One that stands still for longer than its Lease is master no more, ends by itself, and is there again at once.
        paused = second["leader"]
        pid = up.status()["pids"][paused]
        os.kill(pid, signal.SIGSTOP)
        try:
            await replaced(up, paused)
        finally:
            # The client waits for what it asked this broker as long as the connection is open.
            os.kill(pid, signal.SIGCONT)
        third = await until_whole(up, leader_is_not=paused, names=NAMES)
        assert third["epoch"] > second["epoch"]
        assert f"broker {paused} is master no more and starts again to follow" in up.log.read_text()
        assert up.status()["pids"][paused] != pid
        await load.has_more(200)

        # A restart token: the slave is restarted, then the master hands over and is.
        before = up.status()["pids"]
        annotated = up.template.replace(
            "  name: pair\nspec:", '  name: pair\n  annotations: {penstock.io/restart: "monday"}\nspec:'
        )
        assert annotated != up.template
        up.file.write_text(annotated)

        async def rolled() -> bool:
            pids = up.status()["pids"]
            return pids.keys() == before.keys() and all(pids[name] != before[name] for name in NAMES)

        await eventually(rolled, f"two new processes; {up.log}")
        await until_whole(up, names=NAMES)
        said = up.log.read_text()
        assert f"{third['leader']} hands over to" in said
        assert "ended with exit code" not in said
        await load.has_more(200)
    finally:
        load.stopped = True
        await running
    assert load.errors == []
    found = await asyncio.to_thread(consumed, up.status()["bootstrap"], len(load.acknowledged))
    assert sorted(found) == sorted(load.acknowledged)
    assert await up.stop() == 0

    # Who was stopped last has left its Lease to whoever may take over, so nobody waits until it has run out.
    await up.start()
    await until_whole(up, names=NAMES)
    assert await up.stop() == 0


async def test_one_broker_alone_keeps_a_lease_as_well(tmp_path: Path) -> None:
    template = EXAMPLE.read_text().replace("replicas: 2", "replicas: 1")
    up = Up(tmp_path, template, "pair")
    up.file.write_text(template)
    try:
        await up.start()
        first = await until_whole(up, names=NAMES[:1])
        os.kill(up.status()["pids"][NAMES[0]], signal.SIGKILL)

        async def leads_again() -> bool:
            return (await until_whole(up, names=NAMES[:1]))["epoch"] > first["epoch"]

        await eventually(leads_again, f"a newer epoch; {up.log}")
        assert (tmp_path / "data" / "pair" / "lease.json").is_file()
    finally:
        assert await up.stop() == 0
