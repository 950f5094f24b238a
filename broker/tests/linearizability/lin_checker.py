"""Asks the checker program about a history: its verdict, and the offending part in words."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILDER = Path(__file__).resolve().parents[3] / "tools" / "history-checker"
BUILD_SECONDS_MAX = 600.0
LIMIT_S = 60.0
"""Longest search of one history."""
SLACK_S = 30.0


@dataclass(frozen=True)
class Judgement:
    """What the checker found. `verdict` is ok, violation or undecided: the time ran out, which is no success."""

    verdict: str
    partitions: Sequence[dict[str, Any]]

    def words(self) -> str:
        """The verdict, and for every partition that is not in order where the search got stuck, and why."""
        lines = [f"verdict: {self.verdict}"]
        for one in self.partitions:
            if one["verdict"] == "ok":
                continue
            explained = f"{one.get('explained', 0)} of {one['operations']} operations can be put in order"
            lines.append(f"partition {one['partition']}: {one['verdict']}; {explained} ({one.get('state')})")
            lines += [f"  no order for {name}" for name in one.get("offending", ())]
            lines += [f"  {sentence}" for sentence in one.get("findings", ())]
            if "picture" in one:
                lines.append(f"  picture: {one['picture']}")
        return "\n".join(lines)


class Checker:
    """The compiled checker."""

    def __init__(self, program: Path) -> None:
        self.program = program

    @classmethod
    def build(cls) -> Checker:
        """Compiles it when it is not there yet. Raises RuntimeError; the builder's own output says why."""
        done = subprocess.run(
            [str(BUILDER)], stdout=subprocess.PIPE, text=True, check=False, timeout=BUILD_SECONDS_MAX
        )
        if done.returncode != 0:
            raise RuntimeError(f"{BUILDER.name} could not make the checker: its own output above says why")
        return cls(Path(done.stdout.splitlines()[-1]))

    def judge(self, history: Path, *, limit_s: float = LIMIT_S, pictures: Path | None = None) -> Judgement:
        """Judges a history file. Raises ValueError, with a sentence, when it is no history."""
        command = [str(self.program), "-limit", f"{limit_s}s"]
        if pictures is not None:
            command += ["-pictures", str(pictures)]
        done = subprocess.run(
            [*command, str(history)], capture_output=True, text=True, check=False, timeout=limit_s + SLACK_S
        )
        if done.returncode not in (0, 1, 2):
            raise ValueError(done.stderr)
        report = json.loads(done.stdout)
        assert {"ok": 0, "violation": 1, "undecided": 2}[report["verdict"]] == done.returncode
        return Judgement(report["verdict"], report["partitions"])
