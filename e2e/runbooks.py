"""The runbooks' commands, carried out as somebody on call would: by a shell, in the order of the page, where the alert fires.

The pages speak of a cluster `orders` in namespace `shop`; what has another name where a command is run is replaced, word by
word, and nothing else. A page that was taken up has to be run whole: what is left over when it is closed is an error, but for
what `NOT_RUN` gives a reason for.
"""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import environment as penstock
from penstock.testing.managed_process import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from kube import Kube

PAGES = penstock.ROOT / "docs" / "runbooks"
NOT_RUN = {"kubectl -n shop top pod": "kind has no metrics server, and no registry hands one out here"}
"""How commands begin that no scenario runs, and why."""
COMMAND_SECONDS_MAX = 150.0
"""Longer than the longest wait that a page asks for."""
FORWARD_SECONDS_MAX = 20.0
_FENCE = "```"
_SECTION = "## "
_PREPARE = "set -euo pipefail; "
LOOK, END_IT, OVER_WHEN = "Look", "End it", "Over when"
"""The sections of a page that have commands."""


@dataclass(frozen=True)
class Command:
    """A line of a page's section, as it stands there."""

    section: str
    line: str

    @property
    def not_run(self) -> bool:
        return any(self.line.startswith(beginning) for beginning in NOT_RUN)


def commands(page: Path) -> list[Command]:
    """All of a page, in order."""
    found, section, inside = [], "", False
    for line in page.read_text().splitlines():
        if line.startswith(_FENCE):
            inside = not inside
        elif inside and line.strip():
            found.append(Command(section, line))
        elif line.startswith(_SECTION):
            section = line.removeprefix(_SECTION)
    return found


def filled(line: str, words: Mapping[str, str]) -> str:
    """The line with the scenario's words in place of the page's. Only whole words are replaced: `orders-0-1` is another one
    than `data-orders-0-1`. The longest one counts where several fit."""
    if not words:
        return line
    known = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(rf"(?<![\w-])(?:{known})(?![\w-])", lambda match: words[match[0]], line)


def forwarded(port: int) -> dict[str, str]:
    """The words for a port of a pod that is forwarded, where this machine may use its number for something else."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        here = free.getsockname()[1]
    return {str(port): f"{here}:{port}", f"localhost:{port}": f"localhost:{here}"}


@dataclass
class Runbook:
    """A page that is carried out; `words` are the scenario's for the page's, `without` the beginnings of lines that do not
    concern it, `folder` has the logs of what runs in the background. To be used as a context, which ends that."""

    name: str
    kube: Kube
    folder: Path
    words: Mapping[str, str]
    without: tuple[str, ...] = ()
    _run: set[Command] = field(default_factory=set)
    _forwards: list[ManagedProcess] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for forward in self._forwards:
            forward.terminate()
        if error is None:
            left = [command.line for command in self._wanted() if command not in self._run]
            assert not left, f"{self.name}: commands that were not run: {left}"

    def run(self, section: str, having: str = "") -> str:
        """Runs the section's commands that have this text in them, one after the other; returns what they printed. Raises
        AssertionError when one fails, or there is none."""
        found = [
            command for command in self._wanted() if command.section == section and having in command.line
        ]
        assert found, f"{self.name} has no command with {having!r} under {section!r}"
        return "".join(self._carry_out(command) for command in found)

    def _wanted(self) -> list[Command]:
        return [
            command
            for command in commands(PAGES / f"{self.name}.md")
            if not command.not_run and not command.line.startswith(self.without or ("\n",))
        ]

    def _carry_out(self, command: Command) -> str:
        line = filled(command.line, self.words)
        self._run.add(command)
        print(f"{self.name}: $ {line}")
        if " port-forward " in line:
            return self._forward(line)
        done = subprocess.run(
            ["bash", "-c", _PREPARE + line],
            capture_output=True,
            text=True,
            check=False,
            env=self.kube.environment(),
            timeout=COMMAND_SECONDS_MAX,
        )
        print(done.stdout + done.stderr)
        assert done.returncode == 0, f"{self.name}: {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _forward(self, line: str) -> str:
        """Goes on in the background, as in another window."""
        log = self.folder / f"{self.name}-forward-{len(self._forwards)}.log"
        forward = ManagedProcess(log, self.kube.environment())
        forward.launch(["bash", "-c", "exec " + line])
        self._forwards.append(forward)
        forward.wait_until(
            lambda: "\nForwarding from" in log.read_text(), FORWARD_SECONDS_MAX, "a way through"
        )
        return log.read_text()
