"""Keeping other work of a shared machine out while something is measured, without standing in its way for long."""

from __future__ import annotations

import fcntl
import time
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PATIENCE_S = 150.0
PAUSE_S = 60.0
POLL_S = 0.1


@contextmanager
def held(
    locks: Sequence[Path], *, patience_s: float = PATIENCE_S, pause_s: float = PAUSE_S, poll_s: float = POLL_S
) -> Iterator[None]:
    """Holds all lock files (flock), each taken when those before it are held; made where they are missing.

    Whoever waits for the second holds the first, and may keep others from beginning. So all are let go when they do not
    come together within `patience_s`, and asked for again `pause_s` later.
    """
    while True:
        with ExitStack() as stack:
            deadline = time.monotonic() + patience_s
            if all(_taken(stack.enter_context(path.open("a")), deadline, poll_s) for path in locks):
                yield
                return
        time.sleep(pause_s)


def _taken(file: IO[str], deadline: float, poll_s: float) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(poll_s)
        else:
            return True
