"""What the operator's `/metrics` says of its passes, and that objects come and go without leaving series behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from penstock_operator.kube_errors import KubeError
from penstock_operator.metrics import WORKED_ON, OperatorCollector
from penstock_operator.reconcile.passes import DURATION_BUCKETS_S, Passes
from penstock_operator.reconcile.ports import Again, Key
from penstock_operator.reconcile.queue import PASS_SECONDS_MAX, WorkQueue
from penstock_operator.reconcile.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

ORDERS, PAYMENTS = Key("Topic", "shop", "orders"), Key("Topic", "shop", "payments")
CLUSTER = Key("MessageCluster", "shop", "main")
WALL_S = 1_800_000_000.0


class Scraped:
    """A queue whose passes do as they are told, and its metrics."""

    def __init__(self) -> None:
        self.broken: set[Key] = set()
        self._pass = asyncio.Event()
        self.queue = WorkQueue(self._reconcile, lambda: 0.5)
        self.leading = True
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(OperatorCollector(self.queue, lambda: self.leading, lambda: WALL_S))

    async def _reconcile(self, key: Key) -> Again:
        self._pass.set()
        if key in self.broken:
            raise KubeError(500, "InternalError", "no")
        return Again()

    async def until(self, done: Callable[[], bool]) -> None:
        """Works at the queue until something is so."""
        work = asyncio.create_task(self.queue.run())
        try:
            async with asyncio.timeout(20):
                while not done():
                    await self._pass.wait()  # what follows a pass happens before anybody else runs
                    self._pass.clear()
        finally:
            work.cancel()
            await asyncio.wait([work])

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"penstock_operator_{name}", labels)

    def passes(self, kind: str, result: str) -> float | None:
        return self.value("passes_total", kind=kind, result=result)

    def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in self.registry.collect()
            for sample in family.samples
        }


async def test_every_kind_has_its_series_before_the_first_pass() -> None:
    scraped = Scraped()
    for kind in WORKED_ON:
        assert scraped.passes(kind, "ok") == scraped.passes(kind, "failed") == 0
        assert scraped.value("failing", kind=kind) == 0
        assert scraped.value("pass_duration_seconds_count", kind=kind) == 0
        assert scraped.value("last_success_timestamp_seconds", kind=kind) is None  # there was none
    assert scraped.value("queue_length") == 0
    assert scraped.value("leading") == 1
    scraped.leading = False
    assert scraped.value("leading") == 0


async def test_passes_are_counted_by_kind_and_result() -> None:
    scraped = Scraped()
    scraped.broken = {ORDERS}
    for key in (ORDERS, PAYMENTS, CLUSTER):
        scraped.queue.wake(key, 0)
    assert scraped.value("queue_length") == 3
    await scraped.until(lambda: scraped.passes("Topic", "failed") == 2)
    assert scraped.passes("Topic", "ok") == 1
    assert scraped.passes("MessageCluster", "ok") == 1
    assert scraped.passes("MessageCluster", "failed") == 0
    assert scraped.value("failing", kind="Topic") == 1
    assert scraped.value("failing", kind="MessageCluster") == 0
    assert scraped.value("queue_length") == 0  # it waits for its next try, and is not due
    assert scraped.value("pass_duration_seconds_count", kind="Topic") == 3
    assert scraped.value("last_success_timestamp_seconds", kind="Topic") == pytest.approx(WALL_S, abs=20)


async def test_an_object_that_works_again_does_not_fail_any_more() -> None:
    scraped = Scraped()
    scraped.broken = {ORDERS}
    scraped.queue.wake(ORDERS, 0)
    await scraped.until(lambda: scraped.value("failing", kind="Topic") == 1)
    scraped.broken.clear()
    await scraped.until(lambda: scraped.passes("Topic", "ok") == 1)
    assert scraped.value("failing", kind="Topic") == 0
    assert scraped.passes("Topic", "failed") == 1


async def test_a_deleted_object_leaves_nothing_behind() -> None:
    scraped = Scraped()
    before = scraped.series()
    scraped.broken = {ORDERS}
    scraped.queue.wake(ORDERS, 0)
    await scraped.until(lambda: scraped.value("failing", kind="Topic") == 1)
    scraped.queue.forget(ORDERS)
    assert scraped.value("failing", kind="Topic") == 0
    assert scraped.series() == before


def test_one_that_fails_while_it_is_deleted_is_let_go_by_the_pass_that_misses_it() -> None:
    schedule = Schedule()
    schedule.wake(ORDERS, 0)
    assert schedule.take(0) == ORDERS
    schedule.forget(ORDERS)
    delay = schedule.failed(ORDERS, 1)
    assert schedule.failing() == {"Topic": 1}
    assert schedule.due(1) == 0
    assert schedule.due(1 + delay) == 1
    assert schedule.take(1 + delay) == ORDERS
    schedule.finished(ORDERS, 2, None)  # what a pass says of an object that is not there
    assert schedule.failing() == {}
    assert len(schedule) == 0


def test_durations_are_counted_as_prometheus_counts() -> None:
    passes = Passes()
    for duration in (0.01, 0.011, 5.0, PASS_SECONDS_MAX, PASS_SECONDS_MAX + 1):
        passes.ended("Topic", ok=True, duration_s=duration, now_s=7.0)
    assert dict(passes.of("Topic").cumulative()) == {
        "0.01": 1, "0.03": 2, "0.1": 2, "0.3": 2, "1.0": 2, "3.0": 2, "10.0": 3, "30.0": 3, "120.0": 4, "+Inf": 5,
    }  # fmt: skip
    assert DURATION_BUCKETS_S[-1] == PASS_SECONDS_MAX
    assert passes.of("Topic").last_success_s == 7.0
