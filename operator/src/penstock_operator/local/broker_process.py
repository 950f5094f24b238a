"""One broker as a child process: started, watched, started again when it dies, stopped with its parent.

A broker that keeps dying is started ever more slowly, and the last lines of its log are said. One that ends because it is
master no more is not dying: it is started again at once, and follows.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from penstock_operator.local.lease_file import process_name
from penstock_operator.snapshot.endings import EXIT_NOT_MASTER

logger = logging.getLogger(__name__)

RESTART_FIRST_S: Final = 0.2
RESTART_MAX_S: Final = 30.0
STEADY_S: Final = 30.0  # after running this long, the next death counts as the first
STOP_S: Final = 30.0  # a broker flushes and closes within this; then it is killed
READY_POLL_S: Final = 0.05
LOG_BYTES_MAX: Final = 10 * 1024 * 1024  # a bigger log is set aside at the next start
LOG_TAIL_LINES: Final = 3
_LOG_TAIL_BYTES: Final = 4096
_PR_SET_PDEATHSIG: Final = 1


class BrokerProcess:
    """Keeps one broker running. `changed` is called whenever `pid` or `listeners` did, `ended` with the name of the process
    (`lease_file.process_name`) as soon as one has."""

    def __init__(
        self,
        name: str,
        folder: Path,
        say: Callable[[str], None],
        changed: Callable[[], None],
        ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self.listeners: dict[str, str] = {}  # listener -> address; empty until the broker is up
        self.starts = 0
        self.started_from = ""  # the configuration file's text when the broker was last started
        self.config_file = folder / f"{name}.yaml"
        self._data = folder / name
        self._ready_file = folder / f"{name}.ready.json"
        self._log_file = folder / f"{name}.log"
        self._say = say
        self._changed = changed
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._hurry = asyncio.Event()
        self._asked = False  # whether its end was asked for

    async def run(self) -> None:
        """Start and start again until cancelled; then stop the broker."""
        delay = RESTART_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._asked = False
            code = await self._once()
            if self._asked or loop.time() - started >= STEADY_S:
                delay = RESTART_FIRST_S
            if self._asked and code == 0:
                continue  # it stopped as it was told to
            if code == EXIT_NOT_MASTER:
                self._say(f"broker {self.name} is master no more and starts again to follow")
                continue
            self._say(
                f"broker {self.name} ended {_how(code)}, starts again in {delay:.1f} s{self._log_tail(code)}"
            )
            self._hurry.clear()
            try:
                async with asyncio.timeout(delay):
                    await self._hurry.wait()
                delay = RESTART_FIRST_S
            except TimeoutError:
                delay = min(RESTART_MAX_S, delay * 2)

    def restart(self) -> None:
        """Have the broker stop cleanly; `run` starts it again with the file that is there then."""
        if self._process is not None and self._process.returncode is None:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def retry_now(self) -> None:
        """Start at once when it is waiting to: what kept the broker from running may be mended."""
        self._hurry.set()

    async def _once(self) -> int:
        """One life of the broker; returns its exit code, negative for a signal."""
        self._ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "penstock.main", "broker", "--data", str(self._data)]
        command += ["--config", str(self.config_file), "--ready-file", str(self._ready_file)]
        if self._log_file.is_file() and self._log_file.stat().st_size > LOG_BYTES_MAX:
            self._log_file.replace(self._log_file.with_suffix(".log.old"))
        self._data.parent.mkdir(parents=True, exist_ok=True)
        self.started_from = self.config_file.read_text()
        with self._log_file.open("ab") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches the terminal's whole process group; the broker is to be stopped by us, in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.starts += 1
        self.pid = process.pid
        known_as = process_name(process.pid)
        self._changed()
        ready = asyncio.create_task(self._await_ready(process.pid), name=f"{self.name} ready")
        try:
            return await process.wait()
        finally:
            ready.cancel()
            await self._stop(process)
            self._ended(known_as)
            self.pid = None
            self.listeners = {}
            self._changed()

    async def _await_ready(self, pid: int) -> None:
        """Poll for the file that the broker writes once it is up; ends with the broker's life at the latest."""
        while True:
            content = _read_ready_file(self._ready_file)
            if content is not None and content.get("pid") == pid:
                self.listeners = {str(name): str(address) for name, address in content["listeners"].items()}
                self._changed()
                return
            await asyncio.sleep(READY_POLL_S)

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            logger.warning("the broker did not stop in time and is killed", extra={"broker": self.name})
            process.kill()
            await process.wait()

    def _log_tail(self, code: int) -> str:
        """The last lines of the broker's log, unless it ended as asked."""
        if code in (0, -signal.SIGKILL, -signal.SIGTERM):
            return ""
        with self._log_file.open("rb") as log:
            log.seek(max(0, self._log_file.stat().st_size - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines) + f"\n  (all of it: {self._log_file})"


def _how(code: int) -> str:
    if code < 0:
        return f"by signal {signal.Signals(-code).name}"
    meaning = {
        2: ", its configuration is wrong",
        3: ", its data folder is in use",
        4: ", its data is damaged",
    }
    return f"with exit code {code}{meaning.get(code, '')}"


def _read_ready_file(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None  # not there yet; it is written atomically, so half a file is never seen
    return content if isinstance(content, dict) and isinstance(content.get("listeners"), dict) else None


def _die_with_parent() -> None:
    """In the child: get SIGTERM when the parent dies, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == 1:  # the parent was gone before the call
            os._exit(1)
