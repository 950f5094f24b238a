"""A `penstock up` process as a user runs it, with its files, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp

from harness import eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Up:
    """A running `penstock up` of the cluster `name`, whose file is `template` filled in."""

    def __init__(self, folder: Path, template: str, name: str = "local") -> None:
        self.folder = folder
        self.name = name
        self.template = template
        self.file = folder / "cluster.yaml"
        self.status_file = folder / "status.json"
        self.ready_file = folder / "ready.json"
        self.log = folder / "up.log"
        self.ports = {"kafka": free_port(), "http": free_port()}
        self.process: asyncio.subprocess.Process | None = None

    def write(self, partitions: int = 2, config: str = "{}") -> None:
        self.file.write_text(self.template.format(**self.ports, partitions=partitions, config=config))

    async def start(self, words: str | None = None) -> None:
        """Start, and wait until everything is ready, or until these words were said."""
        command = ["-m", "penstock.main", "up", str(self.file), "--data", str(self.folder / "data")]
        command += ["--status-file", str(self.status_file), "--ready-file", str(self.ready_file)]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=log, stderr=log
            )

        async def ready() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, self.log.read_text()
            return self.ready_file.exists()

        if words is None:
            await eventually(ready, "everything is ready")
        else:
            await self.until_said(words)

    async def stop(self) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), 30)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.status_file.read_text())[self.name]
        return found

    def pid(self, ordinal: int = 0) -> int:
        return int(self.status()["pids"].get(f"{self.name}-0-{ordinal}", 0))

    async def until_said(self, words: str) -> None:
        async def said() -> bool:
            return words in self.log.read_text()

        await eventually(said, f"{words!r} in {self.log}")

    async def admin(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.status()['admin']}{path}") as answer,
        ):
            return await answer.json()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
