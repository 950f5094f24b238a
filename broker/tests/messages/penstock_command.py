"""The command line as a program, told where one broker is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

COMMAND_TIMEOUT_S = 30


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


Penstock = Callable[..., Ran]


def penstock_against(admin: str, http: str) -> Penstock:
    """The command line, told where one broker is."""
    environment = {**os.environ, "PENSTOCK_ADMIN": admin, "PENSTOCK_SERVER": http}

    def run(*arguments: str) -> Ran:
        command = [sys.executable, "-m", "penstock.main", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=COMMAND_TIMEOUT_S)
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    return run
