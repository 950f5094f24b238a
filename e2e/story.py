"""The story that a cluster tells of what befell it: its conditions and Events in the order of time, and no log."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from events import moment, told
from resources import CLUSTER

if TYPE_CHECKING:
    from types import TracebackType

    from kube import Kube

END_SECONDS_MAX = 10.0


@dataclass
class Story:
    """Watches a cluster's conditions while it is entered; afterwards `lines` has what they and the Events said meanwhile."""

    kube: Kube
    cluster: str
    _said: list[tuple[str, str]] = field(default_factory=list)  # when (RFC 3339), a line
    _began: str = ""
    _watch: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begins to watch."""
        self._began = _now()
        template = 'jsonpath={.status.conditions}{"\\n"}'
        command = self.kube.command("get", CLUSTER, self.cluster, "--watch", "-o", template)
        self._watch = subprocess.Popen(
            command, env=self.kube.environment(), stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the watch."""
        assert self._watch is not None
        assert self._watch.stdout is not None
        assert self._reader is not None
        self._watch.terminate()
        self._watch.wait(END_SECONDS_MAX)
        self._reader.join(END_SECONDS_MAX)
        self._watch.stdout.close()

    def look(self) -> None:
        """Keeps what `kubectl get` says now."""
        row = self.kube.run("get", CLUSTER, self.cluster, "--no-headers").split()
        self._said.append((_now(), f"kubectl get: {' '.join(row)}"))

    def lines(self) -> list[str]:
        """What was said since the beginning, one sentence a line: `10:20:30 Event LeaderElected: …` is an Event, `10:20:31
        Ready=True BrokersMissing: …` a condition that changed. Within one second Events come first."""
        events = [
            (moment(event), f"Event {event['reason']}: {event['message']}") for event in told(self.kube)
        ]
        said = [entry for entry in [*events, *self._said] if entry[0] >= self._began]
        return [f"{when[11:19]} {line}" for when, line in sorted(said, key=lambda entry: entry[0][:19])]

    def tells(self, *patterns: str) -> None:
        """Raises AssertionError unless each of these regular expressions is found, none earlier than the one before it; what
        came within one second is in no order."""
        find_in_order(self.lines(), *patterns)

    def _read(self) -> None:
        assert self._watch is not None
        assert self._watch.stdout is not None
        before: list[str] = []
        for line in self._watch.stdout:
            now = conditions(json.loads(line or "[]"))
            self._said.extend((_now(), said) for said in now if before and said not in before)
            before = now


def conditions(found: list[dict[str, Any]]) -> list[str]:
    """A line for each condition whose message another one does not hold already."""
    lines: list[str] = []
    for one in found:
        if not any(one["message"] in line for line in lines):
            lines.append(f"{one['type']}={one['status']} {one['reason']}: {one['message']}")
    return lines


def find_in_order(lines: list[str], *patterns: str) -> None:
    """`Story.tells` for lines that begin with their second."""
    since = ""
    for pattern in patterns:
        found = next((line for line in lines if line[:8] >= since and re.search(pattern, line)), None)
        assert found is not None, f"{pattern!r} is not in\n" + "\n".join(lines)
        since = found[:8]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
