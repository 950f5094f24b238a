"""A server in a process of its own, as black-box tests and the bench see it: start, wait, kill, log file, usage.

A failing start must explain itself: what is raised carries the end of the server's log. The process is always found
again by its own process id and killed by it; what it started itself is counted, but left to it to end.
What is started, and how readiness shows, is left to `BrokerProcess` and `ApacheKafka`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOG_TAIL_BYTES = 4096
"""How much of the log's end an error quotes."""

POLL_INTERVAL_S = 0.01
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 10.0

_CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """The server did not start, ended by itself, or did not stop in time; the text quotes its log."""


class Usage(NamedTuple):
    """What a process and its descendants have used: CPU seconds so far, memory now and at its highest."""

    cpu_s: float
    resident_bytes: int
    resident_bytes_max: int


class ManagedProcess:
    """One server process with a log file that outlives restarts. Not thread-safe but for `kill`."""

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises ServerError when nothing was started."""
        if self._process is None:
            raise ServerError("the server was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts `command`; its output is appended to the log. `environment` holds for this start. Raises ServerError when
        it runs already."""
        if self.running:
            raise ServerError(f"process {self.pid} still runs: stop it first")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"--- {' '.join(command)}\n".encode())
            log.flush()
            # A process group of its own: Ctrl-C in the terminal is for the test run, which then stops the server.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, **(environment or {})},
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Polls `ready`. Raises ServerError when the process ends or `timeout_s` passes first."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise ServerError(
                    f"the server ended with {self.exit_code} before {what}; its log ends:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(f"no {what} within {timeout_s:g} s; the log ends:\n{self.tail()}")
            time.sleep(POLL_INTERVAL_S)

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone. Does nothing when it has ended already."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(KILL_TIMEOUT_S)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and to nobody else. Raises ServerError when it does not run."""
        if self._process is None or not self.running:
            raise ServerError(f"there is no process to be sent {number.name}")
        self._process.send_signal(number)

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, and the exit code. Raises ServerError (after a SIGKILL) when it does not end in time."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerError(
                f"no end {timeout_s:g} s after SIGTERM; the log ends:\n{self.tail()}"
            ) from error

    def tail(self) -> str:
        """The end of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def usage(self) -> Usage:
        """CPU and memory of the process and of those it started. Raises ServerError when it does not run."""
        if not self.running:
            raise ServerError(f"the server ended with {self.exit_code}; its log ends:\n{self.tail()}")
        return process_usage(self.pid)


def process_usage(pid: int) -> Usage:
    """Usage of process `pid` and its living descendants, from /proc; descendants that have ended count by their CPU."""
    cpu_ticks = resident = resident_max = 0
    for member in (pid, *_descendants(pid)):
        try:
            # The name is in parentheses and may hold anything, so fields are counted from the last one.
            stat = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{member}/status").read_text()
        except FileNotFoundError:
            continue  # It ended while we looked.
        # utime, stime, and those of waited-for children: fields 14 to 17 of proc(5), the first two being cut off.
        cpu_ticks += sum(int(field) for field in stat[11:15])
        resident += _status_bytes(status, "VmRSS")
        resident_max += _status_bytes(status, "VmHWM")
    return Usage(cpu_ticks / _CLOCK_TICKS_PER_SECOND, resident, resident_max)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            members = [int(member) for member in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for member in members:
            found += [member, *_descendants(member)]
    return found


def _status_bytes(status: str, field: str) -> int:
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
