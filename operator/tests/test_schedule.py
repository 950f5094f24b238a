"""The work queue's state: one entry per object, one worker per object, bounded back-off."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.kube_errors import KubeError
from penstock_operator.reconcile.ports import Again, Key
from penstock_operator.reconcile.queue import WorkQueue
from penstock_operator.reconcile.schedule import BACKOFF_MAX_S, KEYS_MAX, Schedule

A, B = Key("Topic", "shop", "a"), Key("Topic", "shop", "b")


def test_many_wakes_are_one_pass() -> None:
    schedule = Schedule()
    for now in range(5):
        schedule.wake(A, float(now))
    assert schedule.take(10) == A
    assert schedule.take(10) is None


def test_the_earlier_time_counts() -> None:
    schedule = Schedule()
    schedule.wake(A, 0, after_s=30)
    schedule.wake(A, 0, after_s=5)
    schedule.wake(A, 0, after_s=60)
    assert schedule.take(4.9) is None
    assert schedule.next_due() == 5
    assert schedule.take(5) == A


def test_a_wake_during_the_pass_makes_another() -> None:
    schedule = Schedule()
    schedule.wake(A, 0)
    assert schedule.take(0) == A
    schedule.wake(A, 1)
    assert schedule.take(1) is None  # somebody works on it
    schedule.finished(A, 2, 30)
    assert schedule.take(2) == A


def test_others_go_on_while_one_runs() -> None:
    schedule = Schedule()
    schedule.wake(A, 0)
    schedule.take(0)
    schedule.wake(A, 0)
    schedule.wake(B, 0)
    assert schedule.take(0) == B


def test_failures_back_off_up_to_a_bound_and_success_forgets_them() -> None:
    schedule = Schedule()
    delays = []
    now = 0.0
    for _ in range(12):
        schedule.wake(A, now)
        now = max(now, schedule.next_due() or 0)
        assert schedule.take(now) == A
        delays.append(schedule.failed(A, now))
        now += delays[-1]
    assert delays == sorted(delays)
    assert delays[0] < 1
    assert delays[-1] == BACKOFF_MAX_S
    assert schedule.take(now) == A
    schedule.finished(A, now, None)
    schedule.wake(A, now)
    schedule.take(now)
    assert schedule.failed(A, now) == delays[0]


def test_too_many_objects_are_refused() -> None:
    schedule = Schedule()
    for number in range(KEYS_MAX):
        assert schedule.wake(Key("Topic", "shop", str(number)), 0)
    assert not schedule.wake(Key("Topic", "shop", "one more"), 0)
    assert len(schedule) == KEYS_MAX


@given(st.lists(st.tuples(st.sampled_from(["wake", "take", "finish", "fail", "forget"]), st.integers(0, 3))))
def test_no_object_is_worked_on_twice_at_once_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    schedule = Schedule()
    running: set[Key] = set()
    woken: set[Key] = set()
    now = 0.0
    for action, number in steps:
        now += 1
        key = Key("Topic", "shop", str(number))
        if action == "wake":
            schedule.wake(key, now)
            woken.add(key)
        elif action == "take":
            taken = schedule.take(now)
            if taken is not None:
                assert taken not in running
                assert taken in woken
                running.add(taken)
                woken.discard(taken)
        elif action == "finish" and running:
            schedule.finished(running.pop(), now, None)
        elif action == "fail" and running:
            failed = running.pop()
            schedule.failed(failed, now)
            woken.add(failed)
        elif action == "forget":
            schedule.forget(key)
            woken.discard(key)
    left = set()
    for key in list(running):
        schedule.finished(key, now, None)
    while (key_left := schedule.take(now + BACKOFF_MAX_S + 1)) is not None:
        left.add(key_left)
    assert left == woken


async def test_workers_survive_failures_and_say_them(caplog: Any) -> None:
    done = asyncio.Event()
    failures: list[Exception] = [KubeError(409, "Conflict", "changed"), RuntimeError("a mistake of ours")]

    async def reconcile(key: Key) -> Again:
        if failures:
            raise failures.pop(0)
        done.set()
        return Again()

    queue = WorkQueue(reconcile, lambda: 0.5)
    task = asyncio.create_task(queue.run())
    queue.wake(A, 0)
    await asyncio.wait_for(done.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    passes = queue.passes.of(A.kind)
    assert (passes.failed, passes.ok) == (2, 1)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [str(record.exc_info[1]) for record in errors] == ["a mistake of ours"]
