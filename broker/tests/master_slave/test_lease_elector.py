"""The election driven over a store, in virtual time: what the mastership is told, and what is told to it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from lease_scene import ENDED, ME, OTHER, SHARD, STOPS_MS, SYNC, THIRD, TIMING, identity, record
from penstock.raft.messages import Refusal
from penstock.replication.election_status import ElectionStatus
from penstock.replication.master_contender import Election
from penstock.replication.master_lease import LeaseRecord, Observation, Release, WriteOutcome
from penstock.replication.takeover import FailoverPolicy, Replication
from penstock.runtime.clock import Clock
from penstock.runtime.lease_elector import CLOSING_REQUESTS_MAX, LeaseElector
from penstock.runtime.mastership import Mastership
from penstock.testing.memory_lease import MemoryLease
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop

REQUEST_S = TIMING.request_timeout_ms / 1000
LOSSY = FailoverPolicy(replication=Replication.ASYNC, max_lag=5, allow_data_loss=True)


class LoopClock(Clock):
    """The virtual loop's time."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def monotonic_ms(self) -> int:
        return 1_000_000 + int(self._agenda.now * 1000)


class SlowLease(MemoryLease):
    """Takes its time, or never answers: `away` before anything is done, `lost` after."""

    def __init__(self, lease: LeaseRecord | None) -> None:
        super().__init__()
        self.record, self._version = lease, 7
        self.seconds = 0.01
        self.away = self.lost = False
        self.fails: Exception | None = None
        self.asked: list[str] = []
        self.under_way = 0
        self.closed = False

    async def _exchange(self, name: str, does: Coroutine[Any, Any, Any]) -> Any:
        assert not self.under_way, "one call at a time"
        self.asked.append(name)
        self.under_way += 1
        try:
            return await self._answer(does)
        finally:
            self.under_way -= 1

    async def _answer(self, does: Coroutine[Any, Any, Any]) -> Any:
        await asyncio.sleep(self.seconds)
        if self.fails is not None:
            does.close()
            raise self.fails
        if self.away:
            does.close()
            await asyncio.sleep(1000)
        answer = await does
        if self.lost:
            await asyncio.sleep(1000)
        return answer

    async def read(self) -> Observation:
        return cast(Observation, await self._exchange("read", super().read()))

    async def create(self, record: LeaseRecord) -> WriteOutcome:
        return cast(WriteOutcome, await self._exchange("create", super().create(record)))

    async def compare_and_swap(self, record: LeaseRecord, if_version: str) -> WriteOutcome:
        return cast(WriteOutcome, await self._exchange("write", super().compare_and_swap(record, if_version)))

    async def close(self) -> None:
        self.closed = True


class Recorded:
    """Stands in for the mastership: writes down what it is told. Its disk takes 10 ms, or hangs."""

    def __init__(self, epoch: int, log_end: int) -> None:
        self.standing = (epoch, log_end)
        self.said: list[tuple[object, ...]] = []
        self.refusal: Refusal | None = None
        self.disk_hangs = False
        self.elector: LeaseElector

    def kinds(self) -> list[object]:
        return [each[0] for each in self.said]

    def persist_epoch(self, epoch: int, then: Callable[[], None]) -> Refusal | None:
        self.said.append(("persist", epoch))
        if self.refusal is None:
            self._on_disk(then)
        return self.refusal

    def _on_disk(self, then: Callable[[], None]) -> None:
        if not self.disk_hangs:
            asyncio.get_running_loop().call_later(0.01, then)

    def become_master(self, epoch: int, sets: object, refusal: str | None = None) -> None:
        self.said.append(("lead", epoch, sets, refusal))

    def sets_changed(self, sets: object, refusal: str | None = None) -> None:
        self.said.append(("sets", sets, refusal))

    def stop_acknowledging(self, why: str) -> None:
        self.said.append(("stop", why))

    def exit(self, why: str) -> None:
        self.said.append(("exit", why))

    def probe(self) -> None:
        self.said.append(("probe",))
        self._on_disk(self.elector.log_progress)


class Scene:
    """One broker's elector."""

    def __init__(
        self,
        lease: LeaseRecord | None = None,
        *,
        policy: FailoverPolicy = SYNC,
        epoch: int = 3,
        log_end: int = 100,
    ) -> None:
        self.agenda = Agenda()
        self.errors: list[BaseException] = []
        self.loop = VirtualLoop(self.agenda, random.Random(0), on_error=self.errors.append)  # type: ignore[abstract]
        self.clock = LoopClock(self.agenda)
        self.store = SlowLease(lease)
        self.mastership = Recorded(epoch, log_end)
        options = Election(
            holder="start-of-me", identity=identity(ME), shard_uid=SHARD, policy=policy, timing=TIMING
        )
        self.elector = self.mastership.elector = LeaseElector(options, self.store, self.clock, lambda: 0)
        with self.loop.running():
            self.elector.attach(cast(Mastership, self.mastership))
            self.elector.start()

    def run(self, seconds: float) -> None:
        self.agenda.run_until(self.agenda.now + seconds)

    def close(self) -> asyncio.Task[None]:
        with self.loop.running():
            return self.loop.create_task(self.elector.close())

    @property
    def serves(self) -> bool:
        return self.elector.may_serve(self.clock.monotonic_ms())

    @property
    def lease(self) -> LeaseRecord:
        assert self.store.record is not None
        return self.store.record

    @property
    def status(self) -> ElectionStatus:
        return self.elector.status()


def master(policy: FailoverPolicy = SYNC, log_end: int = 100) -> Scene:
    """It took over from OTHER, in epoch 5."""
    scene = Scene(record(released=ENDED), policy=policy, log_end=log_end)
    scene.run(0.1)
    assert scene.serves
    return scene


# --- taking over -----------------------------------------------------------------------------------


def test_a_free_lease_is_taken_and_led_in_once_its_epoch_is_durable() -> None:
    scene = Scene(record(released=ENDED))
    scene.mastership.disk_hangs = True
    scene.run(0.1)
    assert scene.mastership.said == [("persist", 5)]
    assert not scene.serves
    assert scene.status.phase == "claimed"
    scene = master()
    assert scene.mastership.said == [("persist", 5), ("lead", 5, (frozenset({ME, OTHER}),), None)]
    assert scene.status == ElectionStatus("master", "orders-0-0", 5, [ME, OTHER])


def test_who_founds_creates_the_lease() -> None:
    scene = Scene(None, epoch=0, log_end=0)
    scene.run(0.1)
    assert (scene.status.phase, scene.status.reason, scene.status.epoch) == ("following", "LeaseMissing", 0)
    with scene.loop.running():
        scene.elector.found()
    scene.run(0.1)
    assert scene.mastership.said == [("persist", 1), ("lead", 1, (frozenset({ME}),), None)]
    assert scene.lease.in_sync == {ME}


def test_a_lease_is_looked_at_again_at_the_time_that_the_election_names() -> None:
    scene = Scene(record())
    scene.run(5.9)
    assert (scene.status.reason, scene.status.holder_name) == ("Holder", "orders-0-1")
    assert scene.status.sentence == "orders-0-1 holds the Lease of epoch 4"
    assert len(scene.store.asked) == 12, "every half second"
    scene.run(0.3)
    assert scene.serves


def test_when_the_leader_is_gone_the_lease_is_looked_at_at_once() -> None:
    scene = Scene(record())
    scene.run(0.1)
    scene.store.record = record(released=Release("leadership was handed over", ME), version="8")
    with scene.loop.running():
        scene.elector.look()
    scene.run(0.05)
    assert scene.serves


def test_a_store_that_does_not_answer_is_given_up_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(record(released=ENDED))
    scene.store.away = True
    with caplog.at_level(logging.INFO, "penstock"):
        scene.run(5 * REQUEST_S)
    assert (scene.status.phase, scene.status.reason) == ("following", "LeaseUnavailable")
    assert scene.status.sentence == "the Lease cannot be read: no answer within 1 s"
    assert len(caplog.messages) == 1, "a line for each change, not for each try"
    assert scene.store.asked.count("read") >= 3
    scene.store.away = False
    scene.run(2 * REQUEST_S)
    assert scene.serves


def test_a_claim_without_an_answer_is_found_by_reading() -> None:
    scene = Scene(record(released=ENDED))
    scene.run(0.015)
    scene.store.lost = True
    scene.run(REQUEST_S)
    assert scene.lease.holder == "start-of-me"
    assert not scene.mastership.said
    scene.store.lost = False
    scene.run(0.2)
    assert scene.serves


def test_who_is_unfit_claims_nothing() -> None:
    scene = Scene(record(released=ENDED))
    with scene.loop.running():
        scene.elector.unfit("this member is installing a snapshot")
    scene.run(1)
    assert not scene.mastership.said
    assert (scene.status.reason, scene.status.sentence) == ("Unfit", "this member is installing a snapshot")
    with scene.loop.running():
        scene.elector.unfit(None)
    scene.run(1)
    assert scene.serves


def test_an_epoch_that_the_member_refuses_gives_the_lease_up() -> None:
    scene = Scene(record(released=ENDED))
    scene.mastership.refusal = Refusal("epoch 5 is not above 5, which this member knows")
    scene.run(0.1)
    assert scene.mastership.kinds() == ["persist", "exit"]
    assert scene.lease.released == Release("epoch 5 is not above 5, which this member knows")
    assert scene.status.phase == "over"


# --- holding ---------------------------------------------------------------------------------------


def test_a_master_renews_and_serves_as_long_as_the_store_and_the_log_work() -> None:
    scene = master()
    for _ in range(100):
        scene.run(0.2)
        assert scene.serves
    assert scene.lease.renewals == 10
    assert set(scene.mastership.kinds()) == {"persist", "lead", "probe"}


def test_a_master_that_cannot_renew_stops_and_exits_before_the_lease_is_over() -> None:
    scene = master()
    scene.store.away = True
    scene.run(STOPS_MS / 1000)
    assert not scene.serves
    assert scene.mastership.said[-2:] == [
        ("stop", "the Lease could not be renewed in time"),
        ("exit", "the Lease could not be renewed in time"),
    ]
    assert scene.agenda.now < TIMING.duration_ms / 1000
    assert (scene.status.phase, scene.status.sentence) == ("over", "the Lease could not be renewed in time")


def test_a_master_that_stood_still_serves_nothing_before_any_timer_has_told_it() -> None:
    scene = master()
    scene.loop.pause(60)
    scene.run(30)
    assert not scene.serves
    assert "stop" not in scene.mastership.kinds()
    scene.run(31)
    assert scene.mastership.kinds()[-2:] == ["stop", "exit"]


def test_a_silent_log_is_probed_and_one_that_hangs_is_not_renewed_for() -> None:
    scene = master()
    scene.mastership.disk_hangs = True
    scene.run(2)
    assert scene.mastership.said[-1] == ("probe",)
    scene.run(20)
    assert scene.mastership.kinds().count("probe") == 1
    (_, why) = scene.mastership.said[-1]
    assert str(why).startswith("the log has finished no write for ")


def test_a_newer_epoch_ends_the_mastership() -> None:
    scene = master()
    with scene.loop.running():
        scene.elector.log_at(6, 120)
    assert scene.mastership.said[-2:] == [
        ("stop", "there is a newer epoch, 6"),
        ("exit", "there is a newer epoch, 6"),
    ]


def test_the_sets_are_told_before_and_after_they_change() -> None:
    scene = master()
    with scene.loop.running():
        scene.elector.caught_up(THIRD)
    both, three = frozenset({ME, OTHER}), frozenset({ME, OTHER, THIRD})
    assert scene.mastership.said[-1] == ("sets", (both, three), None)
    assert scene.status.pending is None
    scene.run(0.5)
    assert scene.mastership.said[-1] == ("sets", (three,), None)
    assert scene.status.in_sync == [ME, OTHER, THIRD]
    with scene.loop.running():
        scene.elector.fell_behind(OTHER)
    scene.run(0.5)
    assert scene.status.in_sync == [ME, THIRD]


def test_a_log_end_is_written_with_the_next_renewal() -> None:
    scene = master()
    with scene.loop.running():
        scene.elector.log_at(5, 140)
    scene.run(2.1)
    assert scene.lease.log_end == 140


def test_what_may_be_lost_is_said_and_stays_in_the_lease(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "penstock"):
        scene = master(LOSSY, log_end=97)
    sentence = (
        "this broker goes on from entry 97; orders-0-1 had written 100 when it last renewed, so 3 entries are lost, and"
        " with them whatever it acknowledged after that"
    )
    assert caplog.messages == [f"acknowledged messages may be lost with epoch 5: {sentence}"]
    scene.run(5)
    assert (scene.lease.loss, scene.lease.loss_epoch, scene.lease.renewals) == (sentence, 5, 2)
    assert (scene.status.loss, scene.status.loss_epoch) == (sentence, 5)


def test_a_holder_that_becomes_unfit_before_it_leads_gives_the_lease_up() -> None:
    scene = Scene(record(released=ENDED))
    scene.mastership.disk_hangs = True
    scene.run(0.1)
    with scene.loop.running():
        scene.elector.unfit("the disk has no room for another entry")
    scene.run(0.1)
    assert scene.lease.released == Release("the disk has no room for another entry")
    assert scene.mastership.said[-1] == ("exit", "the disk has no room for another entry")


# --- the end ---------------------------------------------------------------------------------------


def test_leadership_is_handed_over_by_a_release() -> None:
    scene = master()
    with scene.loop.running():
        assert scene.elector.hand_over(OTHER) is None
    assert scene.mastership.said[-1] == ("stop", "leadership was handed over")
    assert not scene.serves
    scene.run(0.1)
    assert scene.lease.released == Release("leadership was handed over", OTHER)
    assert scene.mastership.said[-1] == ("exit", "leadership was handed over")


def test_leadership_is_not_handed_to_strangers() -> None:
    scene = master()
    with scene.loop.running():
        assert scene.elector.hand_over(THIRD) == "member 33 is not in sync"
    assert scene.serves


def test_an_orderly_stop_gives_the_lease_up_and_ends_no_process() -> None:
    scene = master()
    closing = scene.close()
    scene.run(0.1)
    assert closing.done()
    assert scene.lease.released == Release("its broker was stopped")
    assert scene.mastership.said[-1] == ("stop", "its broker was stopped")
    assert scene.store.closed


def test_an_orderly_stop_of_who_follows_takes_no_time() -> None:
    scene = Scene(record())
    scene.run(1)
    closing = scene.close()
    scene.run(0.05)
    assert closing.done()
    asked = len(scene.store.asked)
    scene.run(100)
    assert len(scene.store.asked) == asked
    assert scene.mastership.said == []


def test_an_orderly_stop_during_a_claim_gives_it_up() -> None:
    scene = Scene(record(released=ENDED))
    scene.run(0.015)
    assert scene.store.asked == ["read", "write"]
    closing = scene.close()
    scene.run(0.1)
    assert closing.done()
    assert scene.lease.released == Release("the broker stopped before it led")
    assert "lead" not in scene.mastership.kinds()


def test_an_orderly_stop_waits_for_the_store_within_its_bound() -> None:
    scene = master()
    scene.store.away = True
    closing = scene.close()
    scene.run(CLOSING_REQUESTS_MAX * REQUEST_S - 0.1)
    assert not closing.done()
    scene.run(0.2)
    assert closing.done()
    assert closing.exception() is None
    assert scene.store.closed
    assert not scene.errors


def test_a_store_that_breaks_its_word_ends_the_broker() -> None:
    scene = master()
    scene.store.fails = ValueError("a mistake")
    scene.run(2.5)
    assert ("exit", "the Lease's store failed") in scene.mastership.said
    assert [str(error) for error in scene.errors] == ["a mistake"]
