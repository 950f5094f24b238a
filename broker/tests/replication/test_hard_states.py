"""Epochs and votes on their way to the disk: the newest is never overwritten by an older one."""

from __future__ import annotations

import asyncio
import errno
import uuid
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from penstock.raft.ready import HardState
from penstock.runtime import hard_states
from penstock.runtime.data_folder import FORMAT, Meta
from penstock.runtime.hard_states import HardStates
from penstock.runtime.shard import Shard

SHARD, STORAGE = uuid.UUID(int=1), uuid.UUID(int=2)


class Slow:
    """A writer whose jobs run when the test says, a disk that may be full, and the identity's owner."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]] = deque()
        self.asked = asyncio.Event()
        self.full = False
        self.broken = False
        self.on_disk: list[tuple[int, int]] = []
        self.told: list[HardState] = []
        self.failed: list[BaseException] = []
        self.spares = ["1.spare"]
        self.meta = Meta(FORMAT, "cluster", 0, SHARD, STORAGE, 0)
        shard = SimpleNamespace(
            threads=SimpleNamespace(writer=SimpleNamespace(submit=self.submit)),
            log=SimpleNamespace(spares=self.spares, disk=SimpleNamespace(remove=lambda name: None)),
            fail=self.failed.append,
        )
        store = SimpleNamespace(save_meta=self.save)
        self.states = HardStates(cast(Shard, shard), store, lambda: self.meta, self.told.append)

    def submit(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self.jobs.append((job, done))
        self.asked.set()

    def save(self, meta: Meta) -> None:
        if self.broken:
            raise OSError(errno.EIO, "broken")
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        self.on_disk.append((meta.epoch, meta.vote))

    def keep(self, epoch: int, vote: int) -> None:
        self.meta = msgspec.structs.replace(self.meta, epoch=epoch, vote=vote)
        self.states.keep(HardState(epoch, vote))

    def run(self) -> None:
        """The next job, and what follows from it."""
        job, done = self.jobs.popleft()
        try:
            result = job()
        except OSError as error:
            done(None, error)
        else:
            done(result, None)


def test_what_waited_for_room_does_not_replace_what_came_later() -> None:
    slow = Slow()
    slow.full = True
    slow.keep(3, 0)
    slow.keep(4, 0)
    slow.run()
    slow.keep(5, 7)
    slow.full = False
    while slow.jobs:
        slow.run()
    assert slow.on_disk[-1] == (5, 7)
    assert slow.on_disk == sorted(slow.on_disk)
    assert slow.states.stored == slow.states.begun == 3
    assert not slow.spares
    assert slow.told[-1] == HardState(5, 7)


def test_nothing_counts_as_stored_before_it_is() -> None:
    slow = Slow()
    slow.keep(1, 7)
    slow.keep(2, 0)
    assert slow.states.stored == 0
    slow.run()
    assert (slow.on_disk, slow.states.stored) == ([(1, 7)], 1)
    slow.run()
    assert (slow.on_disk, slow.states.stored) == ([(1, 7), (2, 0)], 2)
    assert not slow.jobs


def test_a_full_disk_without_spares_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up what rests on the epoch; it does not end a broker that would find the disk as full when it starts again."""
    monkeypatch.setattr(hard_states, "DISK_FULL_RETRY_SECONDS", 0)

    async def run() -> None:
        slow = Slow()
        slow.spares.clear()
        slow.full = True
        slow.keep(1, 0)
        slow.run()
        slow.keep(2, 7)
        assert not slow.jobs
        slow.full = False
        slow.asked.clear()
        async with asyncio.timeout(5):
            await slow.asked.wait()
        slow.run()
        assert slow.on_disk == [(2, 7)]
        assert slow.states.stored == slow.states.begun == 2
        assert slow.failed == []

    asyncio.run(run())


def test_any_other_error_is_the_end() -> None:
    slow = Slow()
    slow.broken = True
    slow.keep(1, 0)
    slow.run()
    assert len(slow.failed) == 1
    assert slow.states.stored == 0
