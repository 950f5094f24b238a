"""A broker with one fault built in, for the proof that the checks can fail: `lin_broken_broker.py FAULT broker …`.

It patches one function and then runs the real program. Nothing in the broker knows of it.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from penstock.log.disk import RealFile
from penstock.main import main
from penstock.raft import leader, modes
from penstock.runtime.read_gate import ReadGate
from penstock.service.data import ACKS_ALL, ACKS_LEADER, DataServiceImpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.log.disk import Buffer

EARLY_ACK = "acknowledges-before-the-disk"
COMMITS_ALONE = "commits-without-a-majority"
EARLIER_ACK = "acknowledges-before-the-majority"
LEADS_ALONE = "leads-on-without-a-majority"
HELD_BACK_S = 0.4


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """What is not there any more would be replaced in vain, and the build not be broken."""
    assert hasattr(owner, name), f"{owner} has no {name}: break the rule where it stands now"
    setattr(owner, name, function)


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

    _replace(RealFile, "write_at", keep_for_later)
    threading.Thread(target=write_late, daemon=True).start()


def commit_without_a_majority() -> None:
    """An entry that one member holds is committed."""
    _replace(modes, "agreed_index", max)


def acknowledge_before_the_majority() -> None:
    """acks=all is answered like acks=1: when the leader alone holds it."""
    produce = DataServiceImpl.produce

    def produce_for_less(self: DataServiceImpl, context: Any, batches: Any, acks: int, *rest: Any) -> Any:
        return produce(self, context, batches, ACKS_LEADER if acks == ACKS_ALL else acks, *rest)

    _replace(DataServiceImpl, "produce", produce_for_less)


def lead_on_without_a_majority() -> None:
    """A leader that nobody answers any more does not step down by itself, and answers reads from what it has."""
    _replace(leader, "_quorum_is_active", lambda state, leading: True)
    _replace(ReadGate, "when_sure", lambda self, then: then())


BUILDS: dict[str, Callable[[], None]] = {
    EARLY_ACK: acknowledge_before_the_disk,
    EARLIER_ACK: acknowledge_before_the_majority,
    COMMITS_ALONE: commit_without_a_majority,
    LEADS_ALONE: lead_on_without_a_majority,
}

if __name__ == "__main__":
    BUILDS[sys.argv.pop(1)]()
    main()
