"""Clients that are programs: started with a folder for their files, their output read line by line while they run.

Each stream has a thread that hands lines on as they come, because a test must see an assignment when it happens.
The last lines of both are kept, so that a program that fails explains itself.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import deque
from typing import IO, TYPE_CHECKING

from client_driver import STOP_TIMEOUT_S, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINES_KEPT = 30
RUN_TIMEOUT_S = 60.0


def run(command: Sequence[str], *, stdin: str | None = None, timeout_s: float = RUN_TIMEOUT_S) -> str:
    """Runs a program to its end; its standard output. Raises ClientError with what it said when it fails."""
    try:
        done = subprocess.run(
            command, input=stdin or "", capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ClientError(f"{_short(command)} still ran after {timeout_s:g} s: {error.stdout!r}") from error
    if done.returncode != 0:
        raise ClientError(
            f"{_short(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


class ClientProcess:
    """A program that runs beside the test; `on_line` gets every line of its output and of its errors."""

    def __init__(
        self, command: Sequence[str], on_line: Callable[[str], None], *, has_input: bool = False
    ) -> None:
        self._command = command
        self._on_line = on_line
        self._last: deque[str] = deque(maxlen=LINES_KEPT)
        self._asked_to_stop = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def input(self) -> IO[str]:
        """The program's standard input, where it was asked for."""
        assert self._process.stdin is not None, "started without an input"
        return self._process.stdin

    def wait(self, timeout_s: float) -> None:
        """Waits for the end by itself. Raises ClientError when it fails or does not end."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ClientError(
                f"{_short(self._command)} still runs after {timeout_s:g} s: {self.said}"
            ) from error
        self._close()
        if code != 0:
            raise ClientError(f"{_short(self._command)} ended with {code}: {self.said}")

    def stop(self) -> None:
        """SIGTERM, and waits. May be repeated. Raises ClientError when it does not end (it is killed then)."""
        self._asked_to_stop = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            raise ClientError(f"{_short(self._command)} did not end after SIGTERM: {self.said}") from error
        finally:
            self._close()

    def check(self) -> None:
        """Raises ClientError when it ended without having been asked to."""
        if not self._asked_to_stop and self._process.poll() is not None:
            raise ClientError(f"{_short(self._command)} ended with {self._process.returncode}: {self.said}")

    @property
    def said(self) -> str:
        """The last lines of its output and errors."""
        return "\n".join(self._last)

    def _read(self, stream: IO[str] | None) -> None:
        assert stream is not None
        for line in stream:
            self._last.append(line.rstrip("\n"))
            self._on_line(line.rstrip("\n"))

    def _close(self) -> None:
        self._process.wait(STOP_TIMEOUT_S)
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # It ended without reading the rest of its input, which its exit code tells.


def _short(command: Sequence[str]) -> str:
    """The program and its arguments without the class path."""
    return " ".join(part for part in command if "/*" not in part)
