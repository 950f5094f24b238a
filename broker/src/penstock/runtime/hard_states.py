"""Puts epochs and votes on the disk, one after the other and never an older one behind a newer; what must not leave before
them waits for `stored`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from penstock.log.maintenance import DISK_FULL_RETRY_SECONDS, disk_is_full
from penstock.raft.ready import HardState
from penstock.runtime.data_folder import Meta, MetaStore
from penstock.runtime.shard import Shard


class HardStates:
    """`begun` counts what was asked for, `stored` what is durable; `on_stored` is called with the newest of the latter.

    What comes while the disk is busy is stored together, as the newest: `meta` gives the identity as it is by then, with
    the newest epoch and vote in it.
    """

    def __init__(
        self,
        shard: Shard,
        store: MetaStore,
        meta: Callable[[], Meta],
        on_stored: Callable[[HardState], None],
    ) -> None:
        self.begun = 0
        self.stored = 0
        self._shard = shard
        self._store = store
        self._meta = meta
        self._on_stored = on_stored
        self._newest: HardState | None = None
        self._busy = False

    def keep(self, state: HardState) -> None:
        """`meta` gives its epoch and vote from now on."""
        self.begun += 1
        self._newest = state
        if not self._busy:
            self._save()

    def _save(self) -> None:
        number, state = self.begun, self._newest
        assert state is not None
        self._busy = True
        self._shard.threads.writer.submit(
            partial(self._store.save_meta, self._meta()), lambda _, error: self._saved(number, state, error)
        )

    def _saved(self, number: int, state: HardState, error: BaseException | None) -> None:
        log = self._shard.log
        if isinstance(error, OSError) and disk_is_full(error):
            if log.spares:
                # Without an epoch nobody leads, and without a leader nothing is retired: a spare gives its room.
                spare = log.spares.pop()
                self._shard.threads.writer.submit(partial(log.disk.remove, spare), lambda *_: self._save())
            else:
                # Nothing that waits for it has left, and others can lead and free their own disks meanwhile.
                asyncio.get_running_loop().call_later(DISK_FULL_RETRY_SECONDS, self._save)
            return
        if error is not None:
            self._shard.fail(error)
            return
        self.stored = number
        self._busy = False
        if self.begun > number:
            self._save()
        self._on_stored(state)
