"""What a leader sends on its way into the log: what has to be waited for, and what may be said meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from penstock.log.errors import DiskFullError
from penstock.log.segment import Segment
from penstock.log.truncation import SealedSegmentError
from penstock.raft.configuration import Configuration
from penstock.raft.messages import Snapshot
from penstock.raft.ready import Generation, Ready, Tail
from penstock.runtime import following
from penstock.runtime.following import Following
from penstock.runtime.forked_tails import ForkedTails, LogForkedError
from penstock.runtime.seed import SeedingPort
from penstock.runtime.shard import Shard

TAIL = Tail(5, 9, ((2, 5),))


class Surroundings:
    """The shard, its threads, seeding and the place for tails, all of which do nothing until the test says so."""

    def __init__(self, *, aside: bool = False) -> None:
        self.threads = self
        self.sealed = False
        self.cut: list[int] = []
        self.reads: list[asyncio.Future[object]] = []
        self.installs: list[Callable[[], None]] = []
        self.kept: list[tuple[Tail, Callable[[], None]]] = []
        self.failures: list[BaseException] = []
        self.done: list[Ready] = []
        self.installed: list[Snapshot] = []
        self.replaced = 0
        self.following = Following(
            cast(Shard, self),
            cast(ForkedTails, self) if aside else None,
            on_installed=self.installed.append,
            on_replaced=self.now_replaced,
            on_done=self.done.append,
        )
        self.following.seeding = cast(SeedingPort, self)

    def truncate(self, index: int, loaded: object = None) -> None:
        if self.sealed and loaded is None:
            raise SealedSegmentError(cast(Segment, type("S", (), {"name": "1.log"})))
        self.cut.append(index)

    def read(self, function: object) -> asyncio.Future[object]:
        self.reads.append(asyncio.get_running_loop().create_future())
        return self.reads[-1]

    def install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        self.installs.append(done)

    def keep(self, tail: Tail, then: Callable[[], None]) -> None:
        self.kept.append((tail, then))

    def now_replaced(self) -> None:
        self.replaced += 1

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)


def ready(**fields: object) -> Ready:
    return Ready(9, Generation(1), **fields)  # type: ignore[arg-type]


def test_most_is_done_at_once() -> None:
    scene = Surroundings()
    assert scene.following.take(ready())
    assert scene.following.take(ready(truncate_from=5, tail=TAIL))
    assert scene.cut == [5]
    assert not scene.following.waiting
    assert scene.replaced == 1
    assert scene.done == []


def test_a_cut_through_a_sealed_segment_waits_for_its_index() -> None:
    """Until then the log is as long as before, which must not be taken for what is to stand there."""

    async def run() -> None:
        scene = Surroundings()
        scene.sealed = True
        wanted = ready(truncate_from=5)
        assert not scene.following.take(wanted)
        assert scene.following.waiting
        assert scene.replaced == 0
        scene.reads[0].set_result("its index")
        await asyncio.sleep(0)
        assert scene.cut == [5]
        assert scene.done == [wanted]
        assert not scene.following.waiting
        assert scene.replaced == 1

    asyncio.run(run())


def test_an_index_that_cannot_be_read_ends_the_broker() -> None:
    async def run() -> None:
        scene = Surroundings()
        scene.sealed = True
        scene.following.take(ready(truncate_from=5))
        scene.reads[0].set_exception(OSError("no"))
        await asyncio.sleep(0)
        assert len(scene.failures) == 1
        assert scene.done == []

    asyncio.run(run())


def test_a_snapshot_is_waited_for() -> None:
    scene = Surroundings()
    snapshot = Snapshot(20, 3, Configuration((1,)))
    wanted = ready(snapshot=snapshot)
    assert not scene.following.take(wanted)
    assert scene.replaced == 0
    scene.installs[0]()
    assert scene.installed == [snapshot]
    assert scene.done == [wanted]
    assert scene.replaced == 1


def test_a_tail_is_set_aside_before_it_is_cut() -> None:
    scene = Surroundings(aside=True)
    wanted = ready(truncate_from=5, tail=TAIL)
    assert not scene.following.take(wanted)
    assert scene.cut == []
    assert scene.replaced == 0
    ((tail, then),) = scene.kept
    assert tail == TAIL
    then()
    assert scene.cut == [5]
    assert scene.done == [wanted]


def test_a_tail_is_set_aside_before_a_snapshot_takes_its_place() -> None:
    scene = Surroundings(aside=True)
    wanted = ready(snapshot=Snapshot(20, 3, Configuration((1,))), tail=TAIL)
    assert not scene.following.take(wanted)
    assert scene.installs == []
    scene.kept[0][1]()
    scene.installs[0]()
    assert scene.done == [wanted]


def test_a_state_that_is_ahead_of_the_shard_s_ends_the_broker_once_its_tail_is_set_aside() -> None:
    scene = Surroundings(aside=True)
    assert not scene.following.take(ready(forked=TAIL))
    assert scene.failures == []
    scene.kept[0][1]()
    (failure,) = scene.failures
    assert isinstance(failure, LogForkedError)
    assert "entries 5 to 9" in str(failure)
    assert scene.done == []
    assert scene.following.waiting


def test_a_full_disk_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room yet is kept, and the log is not about to be cut any more."""
    monkeypatch.setattr(following, "DISK_FULL_RETRY_SECONDS", 0)
    monkeypatch.setattr(following, "entries_of", lambda piece, first: (piece, first))

    async def run() -> None:
        scene, done = Surroundings(), asyncio.Event()
        full = [True, True, False]

        def follow(_: object) -> int:
            if full.pop(0):
                raise DiskFullError("no room")
            done.set()
            return 12

        log = type("L", (), {"next_index": 10})
        scene.__dict__.update(log=log, follow=follow)
        piece = type("P", (), {"first": 10, "last": 12})
        wanted = ready(truncate_from=10, appends=[piece])
        assert not scene.following.take(wanted)
        assert scene.following.waiting
        assert scene.replaced == 1
        async with asyncio.timeout(5):
            await done.wait()
        assert not scene.following.waiting
        assert scene.done == [wanted]
        assert full == []

    asyncio.run(run())
