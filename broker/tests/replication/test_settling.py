"""Waiting until it is known who serves: how long, and what is left behind."""

from __future__ import annotations

import asyncio

import pytest

from penstock.runtime import settling
from penstock.runtime.settling import Settling


class Known:
    """Whether it is."""

    def __init__(self) -> None:
        self.now = False
        self.settling = Settling(lambda: self.now)

    def settle(self, now: bool) -> None:
        self.now = now
        self.settling.moved()


async def test_everybody_who_waits_goes_on_at_once() -> None:
    known = Known()
    waits = [asyncio.ensure_future(known.settling.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    known.settling.moved()
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    known.settle(True)
    await asyncio.gather(*waits)
    await known.settling.wait()


async def test_nobody_waits_longer_than_an_election_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks later has the less to wait; without a majority the answer comes at once."""
    monkeypatch.setattr(settling, "SETTLING_SECONDS_MAX", 0.01)
    known = Known()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await known.settling.wait()
    assert loop.time() - began >= 0.01
    monkeypatch.setattr(settling, "SETTLING_SECONDS_MAX", 0.0)
    await asyncio.wait_for(known.settling.wait(), 10)
    # The next election has its own time.
    monkeypatch.setattr(settling, "SETTLING_SECONDS_MAX", 1000.0)
    known.settle(True)
    known.settle(False)
    wait = asyncio.ensure_future(known.settling.wait())
    await asyncio.sleep(0)
    assert not wait.done()
    known.settle(True)
    await wait


async def test_a_wait_that_was_given_up_leaves_nothing_behind() -> None:
    known = Known()
    wait = asyncio.ensure_future(known.settling.until(lambda: False))
    await asyncio.sleep(0)
    assert known.settling._waiting == 1
    wait.cancel()
    await asyncio.gather(wait, return_exceptions=True)
    assert known.settling._waiting == 0
