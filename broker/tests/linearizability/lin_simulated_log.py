"""Histories without a broker: clients of a list in memory, in an order drawn from a seed, right or broken on purpose.

Every operation of a right run takes effect at one moment between its call and its answer, or, where the outcome stays
unknown, at any later moment or never. So its history is linearizable by construction. A `Break` damages the list, or one
answer, in a way that no order can explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from penstock.testing.history import History

CLIENTS = 5
STEPS = 150
UNKNOWN = 0.15
FAILED = 0.1
LATE = 0.05
PARTITION = 0


class Break(Enum):
    """What a broken log does once in its run."""

    LOSES = "forgets an acknowledged value"
    LOSES_AND_REFILLS = "forgets an acknowledged value and gives its offset to the next one"
    REORDERS = "swaps two acknowledged values"
    DOUBLES = "stores an acknowledged value twice"
    SAME_OFFSET = "acknowledges two values at one offset"
    STALE_READ = "answers a read from before an acknowledged append"
    STALE_END = "answers an end from before an acknowledged append"
    BEYOND = "says of the end it told that it lies behind the end"
    GOES_BACK = "shows a value to one reader and hides it from a later one"
    PHANTOM = "shows a value that nobody appended"
    FAILED_YET_STORED = "stores a value after saying for sure that it failed"


@dataclass
class _Call:
    """An operation under way; `answer` is None until it took effect."""

    operation: int
    kind: str
    argument: int
    answer: tuple[int, ...] | None = None


class SimulatedLog:
    """Clients and list of one run; `run` writes the whole history."""

    def __init__(self, history: History, random: Random) -> None:
        self._history = history
        self._random = random
        self._list: list[int] = []
        self._acked: dict[int, int] = {}  # value to offset
        self._late: list[int] = []
        self._calls: dict[int, _Call] = {}
        self._next_value = 0

    def run(self, broken: Break | None = None, steps: int = STEPS) -> None:
        """A run that ends with a read of everything."""
        moment = self._random.randrange(steps // 3, steps)
        for step in range(steps):
            self._step(self._random.randrange(CLIENTS))
            if broken is not None and step == moment:
                self._damage(broken)
        for client in list(self._calls):
            while client in self._calls:
                self._step(client)
        self._look(tuple(self._list), len(self._list))

    def _step(self, client: int) -> None:
        call = self._calls.get(client)
        if self._late and self._random.random() < LATE:
            self._list.append(self._late.pop(self._random.randrange(len(self._late))))
        if call is None:
            self._call(client)
        elif call.answer is None:
            self._take_effect(client, call)
        else:
            self._answer(client, call)

    def _call(self, client: int) -> None:
        kind = self._random.choice(("append", "append", "read", "end"))
        if kind == "append":
            value = self._new_value()
            self._calls[client] = _Call(self._history.append(client, PARTITION, value), kind, value)
        elif kind == "read":
            offset = self._random.randrange(len(self._list) + 3)
            self._calls[client] = _Call(self._history.read(client, PARTITION, offset), kind, offset)
        else:
            self._calls[client] = _Call(self._history.end(client, PARTITION), kind, 0)

    def _take_effect(self, client: int, call: _Call) -> None:
        chance = self._random.random()
        if chance < FAILED:
            self._history.failed(call.operation, "refused")
            del self._calls[client]
        elif call.kind == "append" and chance < FAILED + UNKNOWN:
            self._late.append(call.argument)
            self._history.unknown(call.operation, "no answer")
            del self._calls[client]
        elif call.kind == "append":
            call.answer = (len(self._list),)
            self._list.append(call.argument)
        else:
            call.answer = tuple(self._list)

    def _answer(self, client: int, call: _Call) -> None:
        assert call.answer is not None
        del self._calls[client]
        if self._random.random() < UNKNOWN:
            self._history.unknown(call.operation, "the answer was lost")
        elif call.kind == "append":
            self._acked[call.argument] = call.answer[0]
            self._history.appended(call.operation, call.answer[0])
        elif call.kind == "end":
            self._history.had_end(call.operation, len(call.answer))
        elif call.argument > len(call.answer):
            self._history.was_beyond(call.operation)
        else:
            # A read may stop early, as one that has room for so many bytes only.
            upto = self._random.randint(call.argument, len(call.answer))
            self._history.was_read(call.operation, call.answer[call.argument : upto], len(call.answer))

    # --- damage ----------------------------------------------------------------------------------

    def _damage(self, broken: Break) -> None:
        offset = self._append_alone()
        match broken:
            case Break.LOSES:
                del self._list[offset]
            case Break.LOSES_AND_REFILLS:
                del self._list[offset]
                self._append_alone()
            case Break.REORDERS:
                self._append_alone()
                self._list[offset], self._list[offset + 1] = self._list[offset + 1], self._list[offset]
            case Break.DOUBLES:
                self._list.append(self._list[offset])
            case Break.SAME_OFFSET:
                self._append_alone(told=offset)
            case Break.STALE_READ:
                self._look(tuple(self._list[:offset]), offset)
            case Break.STALE_END:
                self._history.had_end(self._history.end(CLIENTS, PARTITION), offset)
            case Break.BEYOND:
                end = len(self._list)
                self._look(tuple(self._list), end)
                self._history.was_beyond(self._history.read(CLIENTS, PARTITION, end))
            case Break.GOES_BACK:
                value = self._new_value()
                self._history.unknown(self._history.append(CLIENTS, PARTITION, value), "no answer")
                self._look((*self._list, value), len(self._list) + 1)
                self._look(tuple(self._list), len(self._list))
            case Break.PHANTOM:
                self._list.append(self._new_value())
            case Break.FAILED_YET_STORED:
                value = self._new_value()
                self._history.failed(self._history.append(CLIENTS, PARTITION, value), "refused")
                self._list.append(value)

    def _append_alone(self, told: int | None = None) -> int:
        """One append from call to answer with nothing between; its offset."""
        value, offset = self._new_value(), len(self._list)
        operation = self._history.append(CLIENTS, PARTITION, value)
        self._list.append(value)
        self._history.appended(operation, offset if told is None else told)
        return offset

    def _look(self, values: tuple[int, ...], end: int) -> None:
        self._history.was_read(self._history.read(CLIENTS, PARTITION, 0), values, end)

    def _new_value(self) -> int:
        self._next_value += 1
        return self._next_value
