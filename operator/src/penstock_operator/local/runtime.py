"""`penstock up` while it runs: files in, brokers and reconcilers in the middle, lines and status files out.

Ownership: the runtime starts and stops everything; the queue's workers alone touch clusters, topics and groups; the
file watch alone changes what is wanted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp

from penstock_operator.api.names import (
    ADMIN_LISTENER,
    CONSUMER_GROUP,
    HTTP_LISTENER,
    MESSAGE_CLUSTER,
    TOPIC,
)
from penstock_operator.desired.broker_config import config_problems
from penstock_operator.local.cluster import LocalCluster, decode_cluster
from penstock_operator.local.files import NAMESPACE, Identity, Loaded, check_changes, file_stamps, load_files
from penstock_operator.local.store import LocalStore
from penstock_operator.reconcile.dependents import Dependent, is_paused, reconcile_dependent
from penstock_operator.reconcile.group import GroupDependent
from penstock_operator.reconcile.ports import Again, ClusterState, Key
from penstock_operator.reconcile.queue import WorkQueue
from penstock_operator.reconcile.topic import TopicDependent

logger = logging.getLogger(__name__)

FILE_POLL_S: Final = 0.5
CLUSTER_WAIT_S: Final = 0.5
CLUSTER_RESYNC_S: Final = 30.0
SHARD_RESYNC_S: Final = 1.0  # where leadership can move, which no process tells us
CONNECTIONS_MAX: Final = 64


class LocalRuntime:
    """Everything that `penstock up` runs."""

    def __init__(
        self,
        paths: list[Path],
        data: Path,
        say: Callable[[str], None],
        status_file: Path | None = None,
        ready_file: Path | None = None,
    ) -> None:
        self._paths = paths
        self._data = data
        self._say = say
        self._status_file = status_file
        self._ready_file = ready_file
        self._was_ready = False
        self._up: set[str] = set()  # clusters of which it was said that they are
        self._published: dict[str, Any] | None = None
        self._wanted: dict[Identity, dict[str, Any]] = {}
        self._reported: set[str] = set()
        self._dependents: dict[str, Dependent] = {TOPIC: TopicDependent(), CONSUMER_GROUP: GroupDependent()}
        self.clusters: dict[str, LocalCluster] = {}
        self.store = LocalStore(data / "remembered.json")
        self.queue = WorkQueue(self._reconcile, random.random)
        self._session: aiohttp.ClientSession | None = None

    async def run(self, loaded: Loaded, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises what ends a task that should never end."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        async with aiohttp.ClientSession(connector=connector) as session:
            self._session = session
            self.publish()
            await self._take_over(loaded.resources)
            tasks = [
                asyncio.create_task(self.queue.run(), name="workers"),
                asyncio.create_task(self._follow_files(), name="files"),
                asyncio.create_task(stop.wait(), name="stop"),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                await asyncio.gather(*(cluster.stop() for cluster in self.clusters.values()))
                for path in (self._status_file, self._ready_file):
                    if path is not None:
                        path.unlink(missing_ok=True)

    async def find(self, namespace: str, name: str) -> ClusterState:
        """See `ports.Clusters`."""
        cluster = self.clusters.get(name)
        if cluster is None:
            message = f"there is no MessageCluster {name} in the files: add it, or correct clusterRef"
            return ClusterState(state="Missing", message=message)
        return await cluster.state()

    def status(self) -> dict[str, Any]:
        """What scripts want to know, per cluster."""
        return {name: self._cluster_status(cluster) for name, cluster in self.clusters.items()}

    def _cluster_status(self, cluster: LocalCluster) -> dict[str, Any]:
        spokesman = cluster.spokesman
        return {
            "bootstrap": cluster.bootstrap,
            "http": spokesman.listeners.get(HTTP_LISTENER),
            "admin": spokesman.listeners.get(ADMIN_LISTENER),
            "listeners": spokesman.listeners,
            "leader": cluster.view.leader,
            "epoch": cluster.view.epoch,
            "pids": {name: broker.pid for name, broker in cluster.brokers.items() if broker.pid is not None},
            "brokers": {name: broker.listeners for name, broker in cluster.brokers.items()},
            "data": str(self._data / cluster.name),
        }

    def is_ready(self) -> bool:
        """Whether every resource is as its file says."""
        resources = self.store.all().items()
        return all(
            _is_ready(resource) for identity, resource in resources if identity[0] != MESSAGE_CLUSTER
        ) and all(cluster.is_up for cluster in self.clusters.values())

    def publish(self) -> None:
        """Write the status file when something changed, and the ready file the first time all is well."""
        status = self.status()
        if self._status_file is not None and status != self._published:
            self._published = json.loads(json.dumps(status))
            _write_json(self._status_file, status)
        if not self._was_ready and self.clusters and self.is_ready():
            self._was_ready = True
            self._say("everything is ready")
            if self._ready_file is not None:
                _write_json(self._ready_file, status)

    async def _take_over(self, wanted: dict[Identity, dict[str, Any]]) -> None:
        """Make what the files say what is wanted."""
        self._wanted = wanted
        for kind, name in self.store.update(wanted):
            self.queue.wake(Key(kind, NAMESPACE, name), 0)

    async def _follow_files(self) -> None:
        stamps = file_stamps(self._paths)
        while True:
            await asyncio.sleep(FILE_POLL_S)
            for cluster in self.clusters.values():
                if (error := cluster.crashed()) is not None:
                    raise error
            current = file_stamps(self._paths)
            if current == stamps:
                continue
            stamps = current
            await self._reload()

    async def _reload(self) -> None:
        """A file was edited. Anything wrong in it leaves everything as it was: half an edit is worse than none."""
        loaded = load_files(self._paths)
        refused = check_changes(self._wanted, loaded.resources)
        problems = loaded.problems + [
            f"{kind} {name}: {sentence}"
            for (kind, name), sentences in refused.items()
            for sentence in sentences
        ]
        for problem in problems:
            self._say(f"not taken over: {problem}")
        if not problems:
            self._say("the files changed")
            await self._take_over(loaded.resources)

    async def _reconcile(self, key: Key) -> Again:
        if key.kind == MESSAGE_CLUSTER:
            again = await self._reconcile_cluster(key)
        else:
            again = await reconcile_dependent(key, self._dependents[key.kind], self.store, self, _now)
        self._tell()
        self.publish()
        return again

    async def _reconcile_cluster(self, key: Key) -> Again:
        resource = await self.store.get(key)
        known = self.clusters.get(key.name)
        if resource is None:
            if known is not None:
                del self.clusters[key.name]
                await known.stop()
                self._say(
                    f"cluster {key.name} left the files: its brokers are stopped, its data stays in {self._data / key.name}"
                )
                self._wake_dependents(key.name)
            return Again()
        if is_paused(resource):
            return Again()
        cluster = decode_cluster(resource)
        problems = config_problems(cluster.spec)
        for problem in problems:
            self._say_once(f"cluster {key.name}: {problem}")
        if problems:
            return Again()
        if known is None:
            assert self._session is not None  # set before anything is wanted
            name = key.name
            known = LocalCluster(
                cluster, self._data, self._session, self._say, lambda: self._broker_changed(name)
            )
            self.clusters[name] = known
            known.start()
            return Again(after_s=CLUSTER_WAIT_S)
        settled = await known.reconcile(cluster)
        self._say_up(known)
        resync_s = SHARD_RESYNC_S if len(known.brokers) > 1 else CLUSTER_RESYNC_S
        return Again(after_s=resync_s if settled else CLUSTER_WAIT_S)

    def _broker_changed(self, cluster: str) -> None:
        """A broker started, became reachable or ended."""
        known = self.clusters.get(cluster)
        if known is not None:
            if not known.bootstrap:
                self._up.discard(cluster)
            self.queue.wake(Key(MESSAGE_CLUSTER, NAMESPACE, cluster), 0)
            self._wake_dependents(cluster)
        self.publish()

    def _say_up(self, cluster: LocalCluster) -> None:
        """Say where clients go, each time that a cluster came up."""
        if cluster.name in self._up or not cluster.is_up:
            return
        self._up.add(cluster.name)
        status = self._cluster_status(cluster)
        self._say(
            f"cluster {cluster.name} is up: bootstrap={status['bootstrap']} http={status['http']} admin={status['admin']}"
        )

    def _wake_dependents(self, cluster: str) -> None:
        for (kind, name), resource in self.store.all().items():
            if kind != MESSAGE_CLUSTER and resource["spec"]["clusterRef"]["name"] == cluster:
                self.queue.wake(Key(kind, NAMESPACE, name), 0)

    def _tell(self) -> None:
        notes, self.store.notes = self.store.notes, []
        for (kind, name), note in notes:
            self._say(f"{kind} {name}: {note.message}")

    def _say_once(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self._say(line)


def _is_ready(resource: dict[str, Any]) -> bool:
    conditions = resource.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Atomically: a script that polls the file never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
