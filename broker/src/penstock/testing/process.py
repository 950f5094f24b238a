"""`BrokerProcess`: a real broker in a process of its own, for black-box tests, demos and the bench.

The broker is started as users start it, on free ports of 127.0.0.1, and says through its ready file when it serves.
A restart uses the same ports and the same data, as a pod does that comes back, so clients find it again.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Self

import yaml

from penstock.testing.managed_process import ManagedProcess, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READY_TIMEOUT_S = 20.0
LISTENERS = ("kafka", "http", "admin")
ANY_PORT = "127.0.0.1:0"


class BrokerProcess(ManagedProcess):
    """One broker with everything it needs below `folder`: data/, broker.log, broker.yaml, ready.json.

    `config` holds dotted names as in the configuration file; `listeners` are the names to listen on; `prefix` goes
    before the command (taskset); `listen` fixes addresses that would otherwise be free ports; `program` are Python's
    arguments where something else than `penstock.main` is to run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, object] | None = None,
        listeners: Sequence[str] = LISTENERS,
        listen: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        super().__init__(folder / "broker.log", environment)
        self.folder = folder
        self.data = folder / "data"
        self.ready_file = folder / "ready.json"
        self.ready_after_s: float | None = None
        """Seconds from the last start to readiness; None before the first."""
        self.packages: Path | None = None
        """Where Python finds another release of Penstock from the next start on; None for the one that is tested."""
        self._config = dict(config or {})
        self._prefix = list(prefix)
        self._program = list(program or ("-m", "penstock.main"))
        self._addresses = dict.fromkeys(listeners, ANY_PORT) | dict(listen or {})

    @property
    def kafka(self) -> str:
        """HOST:PORT of the Kafka listener; usable as bootstrap address."""
        return self.address("kafka")

    @property
    def http(self) -> str:
        """Base URL of the data API."""
        return f"http://{self.address('http')}"

    @property
    def admin(self) -> str:
        """Base URL of the admin API."""
        return f"http://{self.address('admin')}"

    def address(self, listener: str) -> str:
        """HOST:PORT of a listener by name. Raises ServerError before the first start."""
        address = self._addresses.get(listener, ANY_PORT)
        if address == ANY_PORT:
            raise ServerError(f"listener {listener} has no address: it was not asked for, or not started yet")
        return address

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> BrokerProcess:
        """Starts and waits until it is ready. Raises ServerError, with the log's end, when it does not get there."""
        started = time.monotonic()
        self.launch_only()
        self.wait_until_ready(timeout_s)
        self.ready_after_s = time.monotonic() - started
        return self

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """For those who launched it. Raises ServerError, with the log's end, when it does not get there."""
        self.wait_until(self.note_ready, timeout_s, "its ready file")

    def configure(self, config: Mapping[str, object]) -> None:
        """Settings from the next start on, in place of those before."""
        self._config = dict(config)

    def launch_only(self) -> None:
        """Starts without waiting for readiness, for those who want to kill it on the way there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ready_file.unlink(missing_ok=True)
        self.launch(self._command(), {"PYTHONPATH": str(self.packages)} if self.packages else {})

    def restart(self, timeout_s: float = READY_TIMEOUT_S) -> BrokerProcess:
        """Starts again on the same ports and data; a broker that still runs is stopped with SIGTERM first."""
        if self.running:
            self.terminate()
        return self.start(timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _command(self) -> list[str]:
        command = [*self._prefix, sys.executable, *self._program, "broker", "--data", str(self.data)]
        for name, address in self._addresses.items():
            command += ["--listen", f"{name}={address}"]
        command += ["--ready-file", str(self.ready_file)]
        if self._config:
            file = self.folder / "broker.yaml"
            file.write_text(yaml.safe_dump(self._config))
            command += ["--config", str(file)]
        return command

    def note_ready(self) -> bool:
        """Whether the ready file is there; if so, the addresses in it hold from now on."""
        # The file is put in place by a rename, so it is either absent or whole.
        if not self.ready_file.exists():
            return False
        ready = json.loads(self.ready_file.read_text())
        self._addresses |= {name: ready["listeners"][name] for name in self._addresses}
        return True
