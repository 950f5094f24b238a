"""A broker with one fault built in, for the proof that the checks can fail: `lin_broken_broker.py FAULT broker …`.

It patches one function and then runs the real program. Nothing in the broker knows of it.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from penstock.log.disk import RealFile
from penstock.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.log.disk import Buffer

EARLY_ACK = "acknowledges-before-the-disk"
HELD_BACK_S = 0.4


def acknowledge_before_the_disk() -> None:
    """Entries are called written and synced as soon as they are handed over, and reach the file a little later."""
    late: queue.SimpleQueue[tuple[float, RealFile, int, bytes]] = queue.SimpleQueue()
    write_at = RealFile.write_at

    def keep_for_later(file: RealFile, position: int, buffers: Sequence[Buffer]) -> int:
        if position == 0:  # The heads of files; what is in doubt here are the entries.
            return write_at(file, position, buffers)
        data = b"".join(buffers)
        late.put((time.monotonic() + HELD_BACK_S, file, position, data))
        return len(data)

    def write_late() -> None:
        while True:
            due, file, position, data = late.get()
            time.sleep(max(0.0, due - time.monotonic()))
            write_at(file, position, [data])

    RealFile.write_at = keep_for_later  # type: ignore[method-assign]
    threading.Thread(target=write_late, daemon=True).start()


BUILDS: dict[str, Callable[[], None]] = {EARLY_ACK: acknowledge_before_the_disk}

if __name__ == "__main__":
    BUILDS[sys.argv.pop(1)]()
    main()
