"""A MessageCluster as processes on this machine: its files, ports and brokers, kept as its spec says."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yaml

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.api.names import ADMIN_PORT, ANNOTATION_RESTART
from penstock_operator.broker_admin import HttpBrokerAdmin
from penstock_operator.desired import broker_config, names
from penstock_operator.local.broker_process import BrokerProcess
from penstock_operator.plan.settings import plan_settings
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError, ClusterState
from penstock_operator.snapshot.broker import parse_settings

LOCAL_HOST: Final = "127.0.0.1"
HTTP: Final = "http"
ADMIN: Final = "admin"


class LocalCluster:
    """One cluster. `say` prints a line for the user; `changed` is called when addresses or processes did."""

    def __init__(
        self,
        cluster: MessageCluster,
        folder: Path,
        session: aiohttp.ClientSession,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.name = cluster.metadata.name
        self.cluster = cluster
        self._folder = folder
        self._session = session
        self._say = say
        self._ports: dict[str, tuple[int, int]] = {}  # listener -> (port of the spec, port that is used)
        (_, _, pod), *_ = names.pod_names(cluster)  # one broker is all that the rules let through
        self.broker = BrokerProcess(pod, folder / self.name, say, changed)
        self._task: asyncio.Task[None] | None = None
        self._started_with: dict[str, Any] = {}
        self.problem: str | None = None

    def start(self) -> None:
        """Write the configuration and start the broker."""
        self._write_config()
        self._task = asyncio.create_task(self.broker.run(), name=f"broker {self.broker.name}")

    async def stop(self) -> None:
        """Stop the broker and wait for it."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])

    def crashed(self) -> BaseException | None:
        """What ended the supervision, which is a mistake of ours."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    @property
    def admin(self) -> HttpBrokerAdmin | None:
        """The broker's admin API, while the broker is up."""
        address = self.broker.listeners.get(ADMIN)
        return HttpBrokerAdmin(self._session, f"http://{address}") if address else None

    @property
    def bootstrap(self) -> str | None:
        """Where clients start: the first listener."""
        return self.broker.listeners.get(self.cluster.spec.listeners[0].name)

    async def state(self) -> ClusterState:
        """See `ports.Clusters`."""
        admin = self.admin
        if admin is None:
            return ClusterState(state="NotReady", message=f"the broker of {self.name} is starting")
        try:
            reasons = await admin.not_ready()
        except AdminUnreachableError as error:
            return ClusterState(state="NotReady", message=str(error))
        if reasons:
            return ClusterState(state="NotReady", message="; ".join(reasons))
        return ClusterState(state="Ready", message="ready", admin=admin)

    async def reconcile(self, cluster: MessageCluster) -> bool:
        """Bring the running broker to the spec; True when nothing is left to do."""
        self.cluster = cluster
        content = self._write_config()
        admin = self.admin
        if admin is None:
            if self.broker.pid is None and content != self._started_with["content"]:
                self._note_start(content)
                self.broker.retry_now()
            return False
        changed_listeners = content["listeners"] != self._started_with.get("listeners")
        if changed_listeners or self._token(cluster) != self._started_with.get("token"):
            self._restart(content, "its listeners or its restart token changed")
            return False
        try:
            table = parse_settings(await admin.settings())
            difference = plan_settings(_settings(cluster), table)
            self._problem(
                "the broker does not know " + ", ".join(difference.unknown) if difference.unknown else None
            )
            if difference.patch:
                self._say(f"cluster {self.name}: {', '.join(difference.patch)} changes while the broker runs")
                await admin.patch_settings(difference.patch)
        except (AdminUnreachableError, ValueError):
            return False  # it is going down or not up yet; its next change wakes us
        except AdminError as error:
            self._problem(f"the broker refuses its settings: {error.detail}")
            return True
        if difference.restart and content != self._started_with.get("content"):
            self._restart(content, f"{', '.join(difference.restart)} cannot change while it runs")
            return False
        return True

    def _problem(self, sentence: str | None) -> None:
        if sentence != self.problem:
            self.problem = sentence
            if sentence:
                self._say(f"cluster {self.name}: {sentence}: correct it in spec.config")

    def _restart(self, content: dict[str, Any], why: str) -> None:
        self._say(f"cluster {self.name}: the broker restarts because {why}")
        self._note_start(content)
        self.broker.restart()

    def _note_start(self, content: dict[str, Any]) -> None:
        self._started_with = {
            "content": content,
            "listeners": content["listeners"],
            "token": self._token(self.cluster),
        }

    def _token(self, cluster: MessageCluster) -> str:
        return cluster.metadata.annotations.get(ANNOTATION_RESTART, "")

    def _write_config(self) -> dict[str, Any]:
        """The broker's file; identity is left to the broker, which keeps it in its data folder."""
        spec = self.cluster.spec
        listeners: list[tuple[str, str, int]] = [
            *((item.name, item.protocol, item.port) for item in spec.listeners),
            (HTTP, HTTP, spec.http.port),
            (ADMIN, ADMIN, ADMIN_PORT),
        ]
        content = {
            "cluster.name": self.name,
            "shard.id": 0,
            "broker.ordinal": 0,
            "broker.name": self.broker.name,
            "replicas": spec.replicas,
            "listeners": [
                {"name": name, "protocol": protocol, "bind": f"{LOCAL_HOST}:{self._port(name, port)}"}
                for name, protocol, port in listeners
            ],
            **_settings(self.cluster),
        }
        _write_whole(self.broker.config_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        if not self._started_with:
            self._note_start(content)
        return content

    def _port(self, listener: str, wanted: int) -> int:
        """The spec's port when it is free, else any free one, said once; stays the same while the spec's does."""
        known = self._ports.get(listener)
        if known is not None and known[0] == wanted:
            return known[1]
        taken_here = {port for _, port in self._ports.values()}
        port = wanted if wanted not in taken_here and _is_free(wanted) else _free_port()
        if port != wanted:
            self._say(
                f"cluster {self.name}: port {wanted} of listener {listener} is taken, {port} is used instead"
            )
        self._ports[listener] = (wanted, port)
        return port


def _settings(cluster: MessageCluster) -> dict[str, Any]:
    """The spec's settings; the disk's size is the file system's, because no volume of our own is made here."""
    wanted = broker_config.settings(cluster.spec)
    del wanted["log.disk.bytes"]
    return wanted


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL_HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL_HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _write_whole(path: Path, text: str) -> None:
    """Write a file at once or not at all: a broker that starts meanwhile must not read half of it."""
    if path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)


def decode_cluster(resource: dict[str, Any]) -> MessageCluster:
    """The typed resource; it was checked when it was read."""
    return msgspec.convert(resource, MessageCluster)
