"""`MasterSlaveProcesses`: a shard in mode MasterSlave, its Lease in a file, and somebody who looks after its processes.

What a kubelet and the operator do together, or `penstock up`, is done here by a thread for each process: when one ends, the
Lease that it held is released, because it is certain that it ended; and one that ended because it is master no more, or has
to be sent everything anew, is started again at once.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.process.electing import process_name
from penstock.process.run import EXIT_NOT_MASTER, EXIT_STORAGE
from penstock.replication.master_lease import LeaseRecord, Release
from penstock.runtime.lease_file import LeaseFile
from penstock.testing.process import BrokerProcess
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LEASE_TIMEOUT_MS = 2_000
WATCH_TIMEOUT_S = 10.0
SEEN_TO_END = "its process was seen to end"


class SupervisedBroker(BrokerProcess):
    """A broker that is looked after from its start to its end. `launch_only` may find that it was started again already."""

    def __init__(self, folder: Path, lease: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.ended: list[int] = []
        """Exit codes of all its processes that have ended."""
        self._lease = lease
        self._starting = threading.RLock()
        self._watch: threading.Thread | None = None
        self._given_up = False

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """See `ManagedProcess.launch`."""
        super().launch(command, environment)
        assert self._process is not None
        self._watch = threading.Thread(target=self._look_after, args=(process_name(self.pid),))
        self._watch.start()

    def launch_only(self) -> None:
        """See `BrokerProcess.launch_only`."""
        with self._starting:
            if not self.running:
                super().launch_only()

    def give_up(self) -> None:
        """Kills it for good, and waits for whoever looks after it."""
        self._given_up = True
        with self._starting:
            self.kill()
        if self._watch is not None:
            self._watch.join(WATCH_TIMEOUT_S)

    def _look_after(self, name: str) -> None:
        process = self._process
        assert process is not None
        code = process.wait()
        asyncio.run(release(self._lease, name))
        self.ended.append(code)
        if code in (EXIT_NOT_MASTER, EXIT_STORAGE) and not self._given_up:
            self.launch_only()


class MasterSlaveProcesses(ShardProcesses):
    """Brokers 0 to `replicas` - 1, whose Lease is `lease`."""

    def __init__(
        self, folder: Path, *, replicas: int = 2, config: Mapping[str, object] | None = None, **options: Any
    ) -> None:
        self.lease = folder / "lease.json"
        settings = {"mode": "MasterSlave", "lease.file": str(self.lease), **(config or {})}
        super().__init__(folder, replicas=replicas, config=settings, **options)

    def _make_broker(self, folder: Path, **options: Any) -> SupervisedBroker:
        return SupervisedBroker(folder, self.lease, **options)

    def close(self) -> None:
        """See `ShardProcesses.close`."""
        for broker in self.brokers:
            assert isinstance(broker, SupervisedBroker)
            broker.give_up()

    def exit_codes(self, ordinal: int) -> list[int]:
        """Of all that broker's processes that have ended."""
        broker = self.brokers[ordinal]
        assert isinstance(broker, SupervisedBroker)
        return broker.ended


async def release(path: Path, process: str) -> bool:
    """Releases the Lease if that process, which has ended, holds it; whether it did."""
    store = LeaseFile(path, "supervisor", LEASE_TIMEOUT_MS)
    try:
        found = await store.read()
        if not isinstance(found, LeaseRecord) or found.identity is None or found.released is not None:
            return False
        if not process or found.identity.container_id != process:
            return False
        await store.compare_and_swap(
            msgspec.structs.replace(found, released=Release(SEEN_TO_END), version=""), found.version
        )
        return True
    finally:
        await store.close()
