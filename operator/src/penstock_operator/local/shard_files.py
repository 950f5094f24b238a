"""The files of one local shard beside its brokers' data: their configurations, and what must outlive a run.

On Kubernetes the identity of a shard, and that it has existed, stand in annotations. Here they are one small file beside
the data folders; without it, a shard that lost all of those would be mistaken for a new one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.api.names import PEER_LISTENER, PEER_PORT
from penstock_operator.desired import broker_config, names
from penstock_operator.local.ports import LOCAL_HOST, Ports
from penstock_operator.snapshot.shard import ShardView, formed_with

SHARD: Final = 0  # one shard is all that the rules let through
MEMORY_FILE: Final = "shard.json"
LEASE_FILE: Final = "lease.json"
BROKER_IDENTITY_FILE: Final = "meta.json"  # in a broker's data folder; it names both ids as our memory does


class ShardMemory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A shard between two runs."""

    cluster_id: str
    shard_uid: str
    formed: int | None = None  # see `desired.identity.Identity.formed`; None: it is not known to have existed
    peer_ports: dict[str, int] = msgspec.field(default_factory=dict)  # broker -> port


class ShardFiles:
    """The files of a cluster's one shard in `folder`. `say` prints a line about a port that is taken."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._path = folder / MEMORY_FILE
        self.folder = folder
        self._ports = Ports(say)
        self.memory = self._recall()

    @property
    def lease(self) -> Path:
        """The shard's Lease, in mode MasterSlave. The brokers make it."""
        return self.folder / LEASE_FILE

    def broker_folder(self, name: str) -> Path:
        """Where a broker keeps its data."""
        return self.folder / name

    def has_data(self, name: str) -> bool:
        """Whether a broker of this name ran here before."""
        folder = self.broker_folder(name)
        return folder.is_dir() and any(folder.iterdir())

    def learn(self, view: ShardView, replicas: int, up: Collection[str]) -> None:
        """Remember what must not be forgotten of what the brokers say."""
        formed = formed_with(view, replicas, up, self.memory.formed)
        self._remember(msgspec.structs.replace(self.memory, formed=formed))

    def settings(self, cluster: MessageCluster) -> dict[str, Any]:
        """The spec's settings; the disk's size is the file system's, because no volume of our own is made here."""
        ports = {ordinal: self._peer_port(ordinal, pod) for shard, ordinal, pod in names.pod_names(cluster)}
        peers = {ordinal: f"{LOCAL_HOST}:{port}" for ordinal, port in ports.items()}
        wanted = broker_config.settings(cluster.spec, peers, self.memory.formed or 0)
        del wanted["log.disk.bytes"]
        return wanted

    def write(self, cluster: MessageCluster) -> dict[str, dict[str, Any]]:
        """Write every broker's configuration file; returns their content by broker."""
        settings = self.settings(cluster)
        place = {} if cluster.spec.mode == "Raft" else {"lease.file": str(self.lease)}
        contents = {}
        for shard, ordinal, name in names.pod_names(cluster):
            identity = broker_config.BrokerIdentity(
                cluster_name=cluster.metadata.name,
                cluster_id=self.memory.cluster_id,
                shard=shard,
                shard_uid=self.memory.shard_uid,
                formed=self.memory.formed is not None,
                ordinal=ordinal,
                name=name,
                place=place,
            )
            listeners = broker_config.listeners(cluster.spec, self._bind(ordinal, name), {})
            content = broker_config.broker_content(identity, listeners, settings)
            write_whole(self.broker_folder(f"{name}.yaml"), broker_config.as_yaml(content).encode())
            contents[name] = content
        return contents

    def _bind(self, ordinal: int, name: str) -> Callable[[str, int], str]:
        def bind(listener: str, port: int) -> str:
            if listener == PEER_LISTENER:
                return f"{LOCAL_HOST}:{self._peer_port(ordinal, name)}"
            return f"{LOCAL_HOST}:{self._ports.choose(ordinal, listener, port)}"

        return bind

    def _peer_port(self, ordinal: int, name: str) -> int:
        """The one of the last run if it is still free: brokers know each other by these addresses."""
        port = self._ports.choose(ordinal, PEER_LISTENER, PEER_PORT, self.memory.peer_ports.get(name))
        ports = {**self.memory.peer_ports, name: port}
        self._remember(msgspec.structs.replace(self.memory, peer_ports=ports))
        return port

    def _recall(self) -> ShardMemory:
        """What an earlier run kept; a new shard gets ids, but a broker that ran here alone has made its own."""
        if self._path.is_file():
            return msgspec.json.decode(self._path.read_bytes(), type=ShardMemory)
        for identity in sorted(self.folder.glob(f"*/{BROKER_IDENTITY_FILE}")):
            return msgspec.json.decode(identity.read_bytes(), type=ShardMemory)
        return ShardMemory(cluster_id=str(uuid.uuid4()), shard_uid=str(uuid.uuid4()))

    def _remember(self, memory: ShardMemory) -> None:
        if memory != self.memory:
            self.memory = memory
            write_whole(self._path, msgspec.json.encode(memory), durably=True)


def write_whole(path: Path, content: bytes, *, durably: bool = False) -> None:
    """Write a file at once or not at all: who reads it meanwhile must not see half of it."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        if durably:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
