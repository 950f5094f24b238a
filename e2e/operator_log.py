"""The operator's log as evidence: an error in it that no scenario expects is a failure, whatever else went well.

Logs are gathered from every operator pod there is, also from containers that ended; whoever kills an operator gathers
first, because a deleted pod's log is gone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kube import Kube

LINES_MAX = 200_000
"""How many lines one session keeps; a log that floods is a finding of its own."""
_ERROR_LEVELS = ("error", "critical", "fatal")
_ERROR = re.compile(
    r'level="?(error|critical|fatal)\b'  # key=value
    r"|^\S+ (error|critical|fatal)\s"  # the operator's own format for people
    r"|\b(ERROR|CRITICAL|FATAL)\b"
    r"|^Traceback "
)


def is_error(line: str) -> bool:
    """True for a line of level error or above, in JSON or as text, and for the head of a traceback."""
    if line.startswith("{"):
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            return bool(_ERROR.search(line))
        level = str(content.get("level") or content.get("severity") or "")
        return level.lower() in _ERROR_LEVELS
    return bool(_ERROR.search(line))


@dataclass
class OperatorLog:
    """Everything the operator pods have said, and which errors are still to be judged."""

    kube: Kube
    selector: str
    expected: list[str] = field(default_factory=list)
    """Regular expressions of errors that the running scenario expects."""
    _seen: dict[str, int] = field(default_factory=dict)  # lines taken, by incarnation of a container
    _unjudged: list[str] = field(default_factory=list)
    _kept: int = 0

    def gather(self) -> None:
        """Reads what is new. Raises OverflowError when the operator floods its log."""
        for pod in self.kube.items("pods", self.selector):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            statuses = pod.get("status", {}).get("containerStatuses", [])
            restarts = sum(status["restartCount"] for status in statuses)
            if restarts:
                self._take(name, f"{uid}/{restarts - 1}", previous=True)
            self._take(name, f"{uid}/{restarts}", previous=False)

    def judge(self) -> list[str]:
        """The unexpected errors since the last judgement; gathers first."""
        self.gather()
        lines, self._unjudged = self._unjudged, []
        patterns = [re.compile(pattern) for pattern in self.expected]
        return [line for line in lines if not any(pattern.search(line) for pattern in patterns)]

    def _take(self, pod: str, incarnation: str, *, previous: bool) -> None:
        done = self.kube.attempt("logs", pod, *(["--previous"] if previous else []))
        if done.returncode != 0:
            return  # the container has not started, or was removed meanwhile
        lines = done.stdout.splitlines()
        new = lines[self._seen.get(incarnation, 0) :]
        self._seen[incarnation] = len(lines)
        self._kept += len(new)
        if self._kept > LINES_MAX:
            raise OverflowError(f"the operator logged more than {LINES_MAX} lines in one session")
        self._unjudged.extend(f"{pod}: {line}" for line in new if is_error(line))
