"""Members of a queue group that lease, work, fail and forget, each in a thread of its own, against all brokers of a shard."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from penstock.testing.queue_client import NoAnswerError, QueueClient, RefusedError
from queue_ledger import Deed, Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

LEASE_MS = 2_000
MOST = 20
POISON = "poison"
FORGOTTEN = 0.05
"""The part of messages that a member takes and never settles."""

PAUSE_S = 0.02


class Members:
    """`clients` are the same group at each broker."""

    def __init__(self, clients: Sequence[QueueClient], members: int, seed: int) -> None:
        self.deliveries: list[Delivery] = []
        self.unanswered = 0
        self.refused: dict[str, int] = {}
        self._clients = clients
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, args=(number, random.Random(f"{seed} {number}")))
            for number in range(members)
        ]
        self.failures: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> int:
        """Messages that are acknowledged."""
        with self._lock:
            return len({each.message for each in self.deliveries if each.done})

    def _work(self, number: int, chance: random.Random) -> None:
        try:
            while not self._stopping.is_set():
                self._round(number, chance)
        except BaseException as error:  # told by the test
            self.failures.append(error)

    def _round(self, number: int, chance: random.Random) -> None:
        client = chance.choice(self._clients)
        asked = time.monotonic()
        try:
            messages = client.lease(MOST, wait_ms=500, lease_ms=LEASE_MS)
        except (RefusedError, NoAnswerError) as error:
            self._note(error)
            return
        told = time.monotonic()
        mine: dict[str, Delivery] = {}
        for message in messages:
            mine[message["receipt"]] = Delivery(message["value"], number, asked, told, LEASE_MS / 1000)
        with self._lock:
            self.deliveries += mine.values()
        kept = {receipt: each for receipt, each in mine.items() if chance.random() >= FORGOTTEN}
        failed = {r: each for r, each in kept.items() if each.message.startswith(POISON)}
        fine = {r: each for r, each in kept.items() if r not in failed}
        self._settle(chance.choice(self._clients), "acknowledge", fine)
        self._settle(chance.choice(self._clients), "reject", failed, delayMs=50)

    def _settle(self, client: QueueClient, deed: Deed, mine: dict[str, Delivery], **more: Any) -> None:
        if not mine:
            return
        now = time.monotonic()
        for each in mine.values():
            each.deed, each.deed_s = deed, now
        try:
            codes = client.settle(deed, list(mine), **more)
        except (RefusedError, NoAnswerError) as error:
            self._note(error)
            return
        now = time.monotonic()
        for receipt, code in codes.items():
            mine[receipt].code, mine[receipt].answered_s = code, now

    def _note(self, error: RefusedError | NoAnswerError) -> None:
        with self._lock:
            self.unanswered += 1
            code = error.code if isinstance(error, RefusedError) else "no answer"
            self.refused[code] = self.refused.get(code, 0) + 1
        time.sleep(PAUSE_S)
