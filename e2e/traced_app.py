"""An instrumented application that runs somewhere else, in a pod or beside us, and does what it is told (`pod_traced.py`)."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

ANSWER_SECONDS_MAX = 240.0
"""Longer than the program itself waits: for two messages and a commit."""
END_SECONDS_MAX = 20.0
LINES_MAX = 100
"""Lines that wait to be read; the program writes one for each that it is sent."""


class ApplicationFailedError(AssertionError):
    """The application could not do it, or is gone; with its words."""


class TracedApp:
    """`command` runs the program, or reaches it, with its stdin and stdout."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        self._lines: queue.Queue[str] = queue.Queue(LINES_MAX)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends it, whatever it does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(END_SECONDS_MAX)
        self._reader.join(END_SECONDS_MAX)
        self._process.stdin.close()
        self._process.stdout.close()

    def send(self, *keys: str) -> list[int]:
        """Has a producer send a message for each key; their offsets."""
        return self._offsets({"send": keys})

    def receive(self, count: int) -> list[int]:
        """Has a consumer read so many messages and commit them; their offsets."""
        return self._offsets({"receive": count})

    def end(self) -> None:
        """Has it close its client and end: all of its own spans are sent then."""
        answer = self._ask({"end": True})
        if "ended" not in answer:
            raise ApplicationFailedError(f"the application did not end: {answer}")

    def _offsets(self, command: dict[str, Any]) -> list[int]:
        answer = self._ask(command)
        if "offsets" not in answer:
            raise ApplicationFailedError(f"{command}: {answer.get('failed', answer)}")
        offsets: list[int] = answer["offsets"]
        return offsets

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=ANSWER_SECONDS_MAX)
        except queue.Empty:
            raise ApplicationFailedError(f"no answer to {command} in {ANSWER_SECONDS_MAX:.0f} s") from None
        if not line:
            raise ApplicationFailedError(f"the application ended, and did not answer {command}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> None:
        """Keeps the answers; an empty line says that no more will come. What else is written there is for people."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._lines.put(line)
        self._lines.put("")
