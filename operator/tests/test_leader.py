"""Who leads: one at a time, judged by one's own clock, and given up in time."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_kube import FakeKube
from penstock_operator.kube_errors import KubeError
from penstock_operator.leader import (
    LEASE_DURATION_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    LeaderElection,
    LeaseView,
    look,
    may_take,
    must_stop,
)


def lease(holder: str = "other", version: str = "1", duration: int = 15) -> dict[str, Any]:
    return {
        "metadata": {"resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": duration},
    }


def test_a_lease_that_changes_is_never_taken() -> None:
    view = LeaseView()
    for second in range(100):
        view = look(lease(version=str(second)), view, float(second))
        assert not may_take(lease(version=str(second)), view, "me", float(second))


def test_a_lease_that_does_not_change_for_its_duration_is_taken() -> None:
    view = look(lease(), LeaseView(), 100.0)
    view = look(lease(), view, 110.0)
    assert not may_take(lease(), view, "me", 114.9)
    assert may_take(lease(), view, "me", 115.0)


def test_a_free_lease_and_ones_own_are_taken_at_once() -> None:
    view = look(lease(""), LeaseView(), 100.0)
    assert may_take(lease(""), view, "me", 100.0)
    assert may_take(lease("me"), view, "me", 100.0)


def test_a_leader_stops_before_anybody_may_take_over() -> None:
    assert not must_stop(0, RENEW_DEADLINE_S - 0.1)
    assert must_stop(0, RENEW_DEADLINE_S)
    assert RENEW_DEADLINE_S + RETRY_S < LEASE_DURATION_S


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def election(kube: FakeKube, identity: str, clock: Clock) -> LeaderElection:
    return LeaderElection(kube, "shop", "operator", identity, clock)


async def test_one_leads_and_the_next_follows_after_the_duration() -> None:
    kube, clock = FakeKube(), Clock()
    first, second = election(kube, "first", clock), election(kube, "second", clock)
    await first.acquire()
    assert not await second._try()
    for _ in range(20):
        clock.now += 5
        assert await first._try()
        assert not await second._try()
    clock.now += 14
    assert not await second._try()
    clock.now += 2
    assert await second._try()
    held = kube.objects["Lease", "shop", "operator"]["spec"]
    assert held["holderIdentity"] == "second"
    assert held["leaseTransitions"] == 2
    # The first one finds out with its next try.
    assert not await first._try()


async def test_of_two_that_try_at_once_one_wins() -> None:
    kube, clock = FakeKube(), Clock()
    outcomes = await asyncio.gather(*(election(kube, name, clock)._try() for name in ("a", "b", "c")))
    assert sum(outcomes) == 1


async def test_release_lets_the_next_one_lead_at_once() -> None:
    kube, clock = FakeKube(), Clock()
    first, second = election(kube, "first", clock), election(kube, "second", clock)
    await first.acquire()
    assert not await second._try()
    await first.release()
    assert await second._try()


async def test_a_leader_that_cannot_renew_stops(monkeypatch: Any) -> None:
    kube, clock = FakeKube(), Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    leader = election(kube, "first", clock)
    await leader.acquire()
    monkeypatch.setattr("penstock_operator.leader.asyncio.sleep", sleep)
    kube.refuse["replace", "operator"] = KubeError(500, "InternalError", "the server is ill")
    await leader.hold()
    assert clock.now <= RENEW_DEADLINE_S + RETRY_S
