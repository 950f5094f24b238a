"""What a leader sends goes into the log: snapshots are installed, entries that another leader holds otherwise are cut, and
the new ones are appended.

One Ready of the core at a time. Most are done at once; four things make one wait: a tail that has to be set aside before it
is cut, a cut through a sealed segment whose index has to be read first, a log that has no room for more entries, and a
snapshot that is being installed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from penstock.log.errors import DiskFullError, EntriesRefusedError, ReleaseTooOldError
from penstock.log.maintenance import DISK_FULL_RETRY_SECONDS
from penstock.log.reader import load_index
from penstock.log.truncation import SealedSegmentError
from penstock.raft.messages import Snapshot
from penstock.raft.ready import Piece, Ready
from penstock.runtime.forked_tails import ForkedTails, LogForkedError
from penstock.runtime.received import entries_of
from penstock.runtime.seed import SeedingPort
from penstock.runtime.shard import Shard


class Following:
    """`waiting`: a Ready is under way, and no other may come. `on_installed` is called when its snapshot is installed,
    `on_replaced` when what its entries take the place of is out of the log, `on_done` when all of it is in the log and it had
    to wait. `aside` keeps what is cut, where a master may have acknowledged it alone."""

    def __init__(
        self,
        shard: Shard,
        aside: ForkedTails | None,
        *,
        on_installed: Callable[[Snapshot], None],
        on_replaced: Callable[[], None],
        on_done: Callable[[Ready], None],
    ) -> None:
        self.seeding: SeedingPort
        self.waiting = False
        self._shard = shard
        self._aside = aside
        self._on_installed = on_installed
        self._on_replaced = on_replaced
        self._on_done = on_done
        self._pieces: deque[Piece] = deque()

    def take(self, ready: Ready) -> bool:
        """True when everything of this Ready is in the log; else it goes on by itself."""
        tail = ready.forked or ready.tail
        if tail is not None and self._aside is not None:
            self.waiting = True
            self._aside.keep(tail, partial(self._kept_aside, ready))
            return False
        return self._replace(ready)

    def _kept_aside(self, ready: Ready) -> None:
        if ready.forked is not None:
            # The state is ahead of the shard's: there is no way on but to be sent everything.
            self._shard.fail(LogForkedError(ready.forked))
            return
        if self._replace(ready):
            self._done(ready)

    def _replace(self, ready: Ready) -> bool:
        if ready.snapshot is not None:
            self.waiting = True
            self.seeding.install(ready.snapshot, partial(self._installed, ready))
            return False
        if ready.truncate_from is not None and not self._truncate(ready):
            return False
        return self._append(ready)

    def _append(self, ready: Ready) -> bool:
        if ready.replaces:
            self._on_replaced()
        self._pieces.extend(ready.appends)
        return self._write_pieces() or self._try_later(ready)

    def _try_later(self, ready: Ready) -> bool:
        self.waiting = True
        asyncio.get_running_loop().call_later(DISK_FULL_RETRY_SECONDS, self._retry, ready)
        return False

    def _retry(self, ready: Ready) -> None:
        # The pieces are kept already.
        if self._write_pieces() or self._try_later(ready):
            self._done(ready)

    def _done(self, ready: Ready) -> None:
        self.waiting = False
        self._on_done(ready)

    def _installed(self, ready: Ready) -> None:
        assert ready.snapshot is not None
        self._on_installed(ready.snapshot)
        if self._append(ready):
            self._done(ready)

    def _truncate(self, ready: Ready) -> bool:
        """False when a segment's index has to be read first."""
        assert ready.truncate_from is not None
        try:
            self._shard.truncate(ready.truncate_from)
        except SealedSegmentError as sealed:
            self.waiting = True
            read = self._shard.threads.read(partial(load_index, sealed.segment))
            read.add_done_callback(partial(self._loaded, ready))
            return False
        return True

    def _loaded(self, ready: Ready, read: asyncio.Future) -> None:  # type: ignore[type-arg]
        error = read.exception()
        if error is not None:
            self._shard.fail(error)
            return
        assert ready.truncate_from is not None
        self._shard.truncate(ready.truncate_from, read.result())
        if self._append(ready):
            self._done(ready)

    def _write_pieces(self) -> bool:
        """Appends what came; False when the disk has no room for the rest now."""
        while self._pieces:
            piece = self._pieces[0]
            last = self._shard.log.next_index - 1
            if last < piece.last:
                try:
                    last = self._shard.follow(entries_of(piece, last + 1))
                except DiskFullError:
                    return False
                except (EntriesRefusedError, ReleaseTooOldError) as error:
                    # The core took the span already; what its bytes are is a fault of the sender or of this release.
                    self._shard.fail(error)
                    raise
                if last < piece.last:
                    return False
            self._pieces.popleft()
        return True
