"""`make demo` in each mode, with fewer messages: the line that scripts look for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.clients
DEMO = Path(__file__).resolve().parents[2] / "e2e" / "demo.py"
MESSAGES = 5_000
SECONDS_MAX = 110


@pytest.mark.parametrize("mode", ["Raft", "MasterSlave"])
def test_the_demo_loses_nothing(mode: str) -> None:
    command = [sys.executable, str(DEMO), "--mode", mode, "--messages", str(MESSAGES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (traced,) = (line for line in ended.stdout.splitlines() if line.startswith("penstock trace --topic "))
    told = ended.stdout[ended.stdout.index(traced) :]
    assert all(f" {what} " in told for what in ("produced", "appended", "committed", "delivered"))
    # Its producer sent it again to the next leader, which may have had it already.
    assert " received " in told or " repeated " in told
    last = ended.stdout.strip().splitlines()[-1]
    assert last.startswith(f"demo: sent={MESSAGES} acked={MESSAGES} received={MESSAGES} lost=0 duplicated=0 ")
