"""Puts epochs and votes on the disk, in order; what must not leave before them waits for `stored`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from penstock.log.maintenance import disk_is_full
from penstock.raft.ready import HardState
from penstock.runtime.data_folder import Meta, MetaStore
from penstock.runtime.shard import Shard


class HardStates:
    """`begun` counts what was asked for, `stored` what is durable; `on_stored` is called with each of the latter."""

    def __init__(self, shard: Shard, store: MetaStore, on_stored: Callable[[HardState], None]) -> None:
        self.begun = 0
        self.stored = 0
        self._shard = shard
        self._store = store
        self._on_stored = on_stored

    def keep(self, state: HardState, meta: Meta) -> None:
        """`meta` has the state's epoch and vote in it."""
        self.begun += 1
        self._save(state, partial(self._store.save_meta, meta))

    def _save(self, state: HardState, save: Callable[[], None]) -> None:
        self._shard.threads.writer.submit(save, lambda _, error: self._kept(state, save, error))

    def _kept(self, state: HardState, save: Callable[[], None], error: BaseException | None) -> None:
        log = self._shard.log
        if isinstance(error, OSError) and disk_is_full(error) and log.spares:
            # Without an epoch nobody leads, and without a leader nothing is retired: a spare gives its room.
            spare = log.spares.pop()
            self._shard.threads.writer.submit(
                partial(log.disk.remove, spare), lambda *_: self._save(state, save)
            )
            return
        if error is not None:
            self._shard.fail(error)
            return
        self.stored += 1
        self._on_stored(state)
