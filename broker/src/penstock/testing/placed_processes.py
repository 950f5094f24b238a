"""The brokers of one shard as processes, for tests that kill, pause and separate them.

One broker or several: the number is a parameter, and so is the place where they run. `Loopback` gives them addresses of
127.0.0.0/8 that no other run uses; `penstock.testing.fault_network` gives each a network namespace. Addresses are fixed
before the start, because brokers of one shard have to know each other's.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from penstock.testing.managed_process import POLL_INTERVAL_S, ServerError
from penstock.testing.process import READY_TIMEOUT_S, BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

KAFKA_PORT, HTTP_PORT, ADMIN_PORT, PEER_PORT = 9092, 8080, 8081, 9093
LEADER_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 1.0
CLUSTER_ID = "cGVuc3RvY2stdGVzdHMtMA"


class Place(Protocol):
    """Where servers run: their addresses, what goes before their commands, and how to call a function beside them."""

    def host(self, server: int) -> str: ...

    def prefix(self, server: int) -> Sequence[str]: ...

    def run(self, function: Callable[[], T]) -> T: ...


class Loopback:
    """The machine itself. The address is made of the process id, so that runs do not meet; servers count from it."""

    def host(self, server: int) -> str:
        """An address for this process's server of that number."""
        own = os.getpid() & 0x3FFFF
        return f"127.{64 + (own >> 12)}.{own >> 4 & 0xFF}.{(own & 0xF) << 4 | server + 1}"

    def prefix(self, server: int) -> Sequence[str]:
        """Nothing."""
        return ()

    def run(self, function: Callable[[], T]) -> T:
        """Calls it."""
        return function()


class ShardProcesses:
    """`replicas` brokers below `folder`, each in a folder of its own named after its ordinal.

    `config` holds dotted names that all share; `program` stands for `penstock.main` where a test runs something else.
    """

    def __init__(
        self,
        folder: Path,
        place: Place,
        *,
        replicas: int = 1,
        config: Mapping[str, object] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self.replicas = replicas
        self.place = place
        shared = dict(config or {})
        if replicas > 1:
            peers = ",".join(f"{number}={place.host(number)}:{PEER_PORT}" for number in range(replicas))
            shared |= {
                "replicas": replicas,
                "shard.peers": peers,
                "shard.uid": str(uuid.uuid4()),
                "cluster.id": CLUSTER_ID,
            }
        ports = {"kafka": KAFKA_PORT, "admin": ADMIN_PORT} | ({"peer": PEER_PORT} if replicas > 1 else {})
        self.brokers = [
            BrokerProcess(
                folder / str(number),
                config={**shared, "broker.ordinal": number},
                listeners=(),
                listen={name: f"{place.host(number)}:{port}" for name, port in ports.items()},
                prefix=place.prefix(number),
                program=program,
            )
            for number in range(replicas)
        ]
        self._paused: set[int] = set()

    @property
    def kafka(self) -> list[tuple[str, int]]:
        """(host, port) of every broker's Kafka listener, by ordinal."""
        return [(self.place.host(number), KAFKA_PORT) for number in range(self.replicas)]

    @property
    def admin(self) -> list[str]:
        """Base URL of every broker's admin API, by ordinal."""
        return [broker.admin for broker in self.brokers]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    def start(self) -> None:
        """Starts all and waits until each is ready. Raises ServerError."""
        for broker in self.brokers:
            broker.launch_only()
        for broker in self.brokers:
            broker.wait_until_ready()

    def kill_all(self) -> None:
        """SIGKILL to all, also to those that are paused."""
        for broker in self.brokers:
            broker.kill()
        self._paused.clear()

    # --- faults ----------------------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """SIGKILL; returns when the process is gone."""
        self.brokers[number].kill()
        self._paused.discard(number)

    def restart(self, number: int, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Starts a killed broker again on its data. Raises ServerError when it does not get ready in time."""
        self.brokers[number].start(timeout_s)

    def pause(self, number: int) -> None:
        """SIGSTOP."""
        os.kill(self.brokers[number].pid, signal.SIGSTOP)
        self._paused.add(number)

    def resume(self, number: int) -> None:
        """SIGCONT; does nothing to a broker that is not paused."""
        if number in self._paused:
            os.kill(self.brokers[number].pid, signal.SIGCONT)
            self._paused.discard(number)

    # --- who leads -------------------------------------------------------------------------------

    def leader(self) -> int | None:
        """Ordinal of the leader of the newest epoch that any broker tells of; None while there is none."""
        if self.replicas == 1:
            return 0
        told = [shard for shard in map(self._shard, range(self.replicas)) if shard is not None]
        newest = max(told, key=lambda shard: (int(shard["epoch"]), bool(shard.get("leader"))), default=None)
        if newest is None or not newest.get("leader"):
            return None
        return next(
            (
                int(member["nodeId"]) % 100
                for member in newest["members"]
                if member["name"] == newest["leader"]
            ),
            None,
        )

    def wait_for_leader(self, timeout_s: float = LEADER_TIMEOUT_S) -> int:
        """Its ordinal. Raises ServerError, with the ends of the brokers' logs, when there is none in time."""
        deadline = time.monotonic() + timeout_s
        while (found := self.leader()) is None:
            if time.monotonic() > deadline:
                raise ServerError(f"no leader within {timeout_s:g} s\n{self.tails()}")
            time.sleep(POLL_INTERVAL_S)
        return found

    def tails(self) -> str:
        """The end of every broker's log."""
        return "\n".join(f"--- broker {number}\n{one.tail()}" for number, one in enumerate(self.brokers))

    def _shard(self, number: int) -> dict[str, Any] | None:
        if not self.brokers[number].running or number in self._paused:
            return None
        try:
            with urllib.request.urlopen(f"{self.admin[number]}/v1/cluster", timeout=ASK_TIMEOUT_S) as answer:
                found: dict[str, Any] = json.load(answer)["shards"][0]
        except (OSError, urllib.error.URLError, TimeoutError):
            return None  # It is cut off, starting or on its way down: others may know.
        return found
