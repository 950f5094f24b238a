"""A cluster of three on this machine with made-up processes: files, ports, memory, rolling restarts, the order of the end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import msgspec
import pytest
import yaml

from harness import fake_shard
from penstock_operator.api.cluster import MessageCluster
from penstock_operator.local.broker_process import BrokerProcess
from penstock_operator.local.cluster import LocalCluster
from penstock_operator.local.view import broker_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fake_broker import FakeShard

NAMES = [f"orders-0-{ordinal}" for ordinal in range(3)]
SHIFT = 100 * (os.getpid() % 100)  # test runs beside each other use ports of their own
PORTS = {"kafka": 21_000 + SHIFT, "http": 21_001 + SHIFT}


def wanted(replicas: int = 3, token: str = "", **spec: Any) -> MessageCluster:
    content = {
        "metadata": {"name": "orders", "annotations": {"penstock.io/restart": token} if token else {}},
        "spec": {
            "mode": "Raft",
            "replicas": replicas,
            "listeners": [{"name": "internal", "port": PORTS["kafka"]}],
            "http": {"port": PORTS["http"]},
            **spec,
        },
    }
    return msgspec.convert(content, MessageCluster)


class MadeUpProcess:
    """A `BrokerProcess` whose broker is a fake one in this process."""

    def __init__(self, name: str, folder: Path, world: World) -> None:
        self.name = name
        self.config_file = folder / f"{name}.yaml"
        self.pid: int | None = None
        self.listeners: dict[str, str] = {}
        self.started_from = ""
        self._folder = folder / name
        self._world = world

    async def run(self) -> None:
        self._come_up()
        try:
            await asyncio.Event().wait()
        finally:
            self._world.log.append(f"{self.name} stopped")

    def restart(self) -> None:
        self._world.log.append(f"{self.name} restarted")
        self._world.shard.restarted(self.name)
        self._come_up()

    def retry_now(self) -> None:
        self._world.log.append(f"{self.name} tried again")
        self._come_up()

    def fail(self) -> None:
        self.pid, self.listeners = None, {}

    def _come_up(self) -> None:
        broker = self._world.shard.brokers[self.name]
        self.started_from = self.config_file.read_text()
        broker.file = yaml.safe_load(self.started_from)
        self._folder.mkdir(exist_ok=True)
        (self._folder / "meta.json").touch()
        self.pid = 1000
        ordinal = broker.file["broker.ordinal"]
        self.listeners = {item["name"]: item["bind"] for item in broker.file["listeners"]}
        self.listeners["admin"] = f"127.0.0.{ordinal + 1}:{broker.port}"


class World:
    """A folder, a fake shard, and the local clusters that run over them one after the other."""

    def __init__(self, folder: Path, shard: FakeShard, session: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.shard = shard
        self.log: list[str] = []
        self.lines: list[str] = []
        self._session = session

    def cluster(self, spec: MessageCluster) -> LocalCluster:
        def launch(
            name: str,
            folder: Path,
            say: Callable[[str], None],
            changed: Callable[[], None],
            ended: Callable[[str], None],
        ) -> BrokerProcess:
            return cast("BrokerProcess", MadeUpProcess(name, folder, self))

        made = LocalCluster(spec, self.folder, self._session, self.lines.append, lambda: None, launch)
        made.start()
        return made

    def file(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.folder / "orders" / f"{name}.yaml").read_text())
        return found

    @property
    def memory(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "orders" / "shard.json").read_text())
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as session, fake_shard(3) as shard:
        yield World(tmp_path, shard, session)


async def settle(cluster: LocalCluster, spec: MessageCluster, passes: int = 10) -> None:
    for _ in range(passes):
        await asyncio.sleep(0)  # started processes come up
        if await cluster.reconcile(spec):
            return
    raise AssertionError(f"not settled: {cluster.view}")


async def test_three_brokers_share_their_identity_and_differ_in_ports(world: World) -> None:
    cluster = world.cluster(wanted())
    files = [world.file(name) for name in NAMES]
    assert [content["shard.formed"] for content in files] == [False] * 3
    assert len({(content["cluster.id"], content["shard.uid"]) for content in files}) == 1
    assert [content["broker.ordinal"] for content in files] == [0, 1, 2]
    binds = [{item["name"]: item["bind"] for item in content["listeners"]} for content in files]
    for ordinal, bind in enumerate(binds):
        assert bind["internal"] == f"127.0.0.1:{PORTS['kafka'] + 10 * ordinal}"
        assert bind["http"] == f"127.0.0.1:{PORTS['http'] + 10 * ordinal}"
    peers = ",".join(f"{ordinal}={bind['peer']}" for ordinal, bind in enumerate(binds))
    assert {content["shard.peers"] for content in files} == {peers}
    assert {content["min.insync.replicas"] for content in files} == {2}
    await settle(cluster, wanted())
    assert cluster.bootstrap == ",".join(bind["internal"] for bind in binds)
    # It exists now: that is written down outside the brokers' folders, and restarts nobody.
    assert world.memory["formed"] == 3
    assert world.memory["shardUid"] == files[0]["shard.uid"]
    assert [world.file(name)["shard.formed"] for name in NAMES] == [True] * 3
    await settle(cluster, wanted())
    assert world.log == []
    assert "cluster orders: orders-0-0 leads in epoch 1" in world.lines
    await cluster.stop()


async def test_the_leader_stops_last(world: World) -> None:
    cluster = world.cluster(wanted())
    world.shard.lead("orders-0-1")
    await settle(cluster, wanted())
    await cluster.stop()
    assert sorted(world.log[:2]) == ["orders-0-0 stopped", "orders-0-2 stopped"]
    assert world.log[2:] == ["orders-0-1 stopped"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token": "monday"}, "its listeners or its restart token changed"),
        ({"flush": {"policy": "async"}}, "flush.policy cannot change while it runs"),
    ],
)
async def test_a_restart_rolls_followers_first_and_hands_over(
    world: World, change: dict[str, Any], words: str
) -> None:
    cluster = world.cluster(wanted())
    await settle(cluster, wanted())
    await settle(cluster, wanted(**change))
    assert world.log == ["orders-0-1 restarted", "orders-0-2 restarted", "orders-0-0 restarted"]
    assert world.shard.hand_overs == [("orders-0-0", "orders-0-1")]
    assert f"cluster orders: orders-0-1 is restarted because {words}" in world.lines
    await cluster.stop()


async def test_a_roll_waits_for_a_broker_that_is_behind(world: World) -> None:
    cluster = world.cluster(wanted())
    await settle(cluster, wanted())
    world.shard.brokers["orders-0-2"].in_sync = False
    for _ in range(3):
        assert not await cluster.reconcile(wanted(token="monday"))
    assert world.log == []
    assert [line for line in world.lines if "not yet, because orders-0-2 is not in sync" in line]
    world.shard.brokers["orders-0-2"].in_sync = True
    await settle(cluster, wanted(token="monday"))
    assert len(world.log) == 3
    await cluster.stop()


async def test_a_broker_that_ended_is_tried_again_when_its_file_changed(world: World) -> None:
    cluster = world.cluster(wanted())
    await settle(cluster, wanted())
    cast("MadeUpProcess", cluster.brokers["orders-0-2"]).fail()
    assert not await cluster.reconcile(wanted())
    assert world.log == []
    await cluster.reconcile(wanted(flush={"policy": "async"}))
    assert world.log == ["orders-0-2 tried again"]
    await cluster.stop()


async def test_dynamic_settings_are_changed_at_the_leader(world: World) -> None:
    cluster = world.cluster(wanted())
    world.shard.lead("orders-0-2")
    await settle(cluster, wanted(config={"log.retention.ms": 5}))
    assert world.shard.dynamic == {"log.retention.ms": 5}
    assert world.log == []
    await cluster.stop()


async def test_it_grows_without_a_restart_and_shrinks_when_brokers_have_left(world: World) -> None:
    for name in NAMES[1:]:
        world.shard.brokers[name].role = None
    cluster = world.cluster(wanted(1))
    await settle(cluster, wanted(1))
    assert list(cluster.brokers) == NAMES[:1]
    await cluster.reconcile(wanted(3))
    assert list(cluster.brokers) == NAMES
    assert world.file("orders-0-1")["shard.formed"] is True
    for name in NAMES[1:]:
        world.shard.brokers[name].role = ""
    await settle(cluster, wanted(3))
    assert world.log == []
    assert world.shard.dynamic == {"min.insync.replicas": 2}
    assert world.shard.resizes == [3]
    world.shard.lead("orders-0-2")
    world.shard.leaving = "broker 2 stays for now: broker 1 is not in sync"
    for _ in range(3):
        assert not await cluster.reconcile(wanted(1))
    assert world.shard.resizes == [3, 1]
    assert world.shard.dynamic == {"min.insync.replicas": 1}, "one broker can be asked for one copy"
    assert list(cluster.brokers) == NAMES
    assert (
        "cluster orders: shard 0 goes down to 1 broker: broker 2 stays for now: broker 1 is not in sync"
        in world.lines
    )
    world.shard.let_go()
    await settle(cluster, wanted(1))
    assert list(cluster.brokers) == NAMES[:1]
    await cluster.stop()
    assert world.log[-1] == "orders-0-0 stopped"
    assert sorted(world.log) == [f"{name} stopped" for name in NAMES]
    assert world.memory["formed"] == 1


async def test_a_run_with_a_smaller_file_begins_with_all_brokers_and_lets_them_leave(world: World) -> None:
    cluster = world.cluster(wanted(3))
    await settle(cluster, wanted(3))
    await cluster.stop()
    again = world.cluster(wanted(1))
    assert list(again.brokers) == NAMES
    await settle(again, wanted(1))
    assert list(again.brokers) == NAMES[:1]
    await again.stop()


async def test_a_shard_whose_folders_are_gone_is_not_made_anew(world: World) -> None:
    cluster = world.cluster(wanted())
    await settle(cluster, wanted())
    await cluster.stop()
    for name in NAMES:
        (world.folder / "orders" / name / "meta.json").unlink()
    uid = world.memory["shardUid"]
    again = world.cluster(wanted())
    assert any("its data is lost and nothing is made anew in silence" in line for line in world.lines)
    assert world.file("orders-0-0")["shard.formed"] is True
    assert world.file("orders-0-0")["shard.uid"] == uid
    await again.stop()


async def test_a_broker_that_was_here_alone_gives_the_shard_its_ids(world: World) -> None:
    (world.folder / "orders" / "orders-0-0").mkdir(parents=True)
    identity = {"format": 1, "clusterId": "old", "shardUid": "6a3b", "ordinal": 0}
    (world.folder / "orders" / "orders-0-0" / "meta.json").write_text(json.dumps(identity))
    cluster = world.cluster(wanted())
    assert {world.file(name)["shard.uid"] for name in NAMES} == {"6a3b"}
    assert {world.file(name)["cluster.id"] for name in NAMES} == {"old"}
    assert world.memory["clusterId"] == "old"
    await cluster.stop()


async def test_peers_keep_their_ports_over_runs(world: World) -> None:
    cluster = world.cluster(wanted())
    before = world.file("orders-0-0")["shard.peers"]
    await cluster.stop()
    first = int(before.split(",")[0].rpartition(":")[2])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first))
        taken.listen()
        moved = world.cluster(wanted())
        after = world.file("orders-0-0")["shard.peers"]
        assert after != before
        assert any("of listener peer is taken" in line for line in world.lines)
        await moved.stop()
    # The one that was taken then is free again, but brokers know each other by the new one.
    again = world.cluster(wanted())
    assert world.file("orders-0-0")["shard.peers"] == after
    await again.stop()


async def test_the_table_has_one_line_per_broker(world: World) -> None:
    cluster = world.cluster(wanted())
    world.shard.brokers["orders-0-2"].lag_bytes = 77
    await settle(cluster, wanted())
    cast("MadeUpProcess", cluster.brokers["orders-0-1"]).fail()
    rows = await broker_rows(cluster)
    assert rows == [
        ("orders-0-0", "Leader", f"127.0.0.1:{PORTS['kafka']}", "12", "0 B"),
        ("orders-0-1", "starting", "-", "-", "-"),
        ("orders-0-2", "Follower", f"127.0.0.1:{PORTS['kafka'] + 20}", "12", "77 B"),
    ]
    await cluster.stop()
