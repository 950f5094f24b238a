"""A ledger of one load run: what was sent, what the broker acknowledged, what came back, and a verdict.

A demo that kills a broker proves something only when a neutral party keeps the books. The ledger is that party: the
load generator numbers its messages 0, 1, 2, … and tells the ledger about each of them; at the end `judge` compares.
It is pure (no clock, no client): times are passed in, and it works the same inside a pod, in `make demo` and in tests.

What it deliberately leaves to others: making the messages, talking to the broker, deciding when to kill something.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES_MAX = 10_000_000
"""The most messages one ledger accepts, so that a run-away load cannot eat the machine (about 120 bytes each)."""

EXAMPLES_MAX = 10
"""How many offending messages of each kind a verdict names; the counts are always complete."""

SILENCES_MAX = 300
"""How many stretches without an acknowledgement are kept, the longest ones: enough for the faults of one run."""

_NOWHERE = -1


class LedgerError(Exception):
    """The books contradict themselves: a number that was never given out, an offset used for two messages."""


class MessagePlace(NamedTuple):
    """Where a message was acknowledged; `number` is the ledger's."""

    number: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Silence:
    """A stretch in which no acknowledgement arrived, in milliseconds of the caller's clock."""

    from_ms: int
    until_ms: int

    @property
    def length_ms(self) -> int:
        """How long it lasted."""
        return self.until_ms - self.from_ms

    def touches(self, from_ms: int, until_ms: int) -> bool:
        """Whether some of it lies within that time."""
        return self.from_ms <= until_ms and from_ms <= self.until_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `Ledger.judge` found; `lost`, `disordered`, `misplaced` and `strangers` are 0 in a good run.

    sent        messages handed to the client
    acked       messages that the broker acknowledged
    unacked     the other ones that were sent: they may be stored or not
    received    different messages that were read back
    lost        acknowledged, but not read back
    disordered  acknowledged, and read back behind a message that was sent later to the same partition
    misplaced   acknowledged at one partition and offset, read back only at others
    strangers   read back, but never sent
    duplicated  further copies of a message, each at an offset of its own
    redelivered the same partition and offset handed out again; ordinary after a consumer restarts
    recovered_ms  from the interruption to the acknowledgement that ended the longest silence after it; None without one
    """

    sent: int
    acked: int
    unacked: int
    received: int
    lost: int
    disordered: int
    misplaced: int
    strangers: int
    duplicated: int
    redelivered: int
    recovered_ms: int | None
    examples: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """True when nothing acknowledged is missing, moved or out of order within its partition."""
        return not (self.lost or self.disordered or self.misplaced or self.strangers)

    def line(self, name: str = "demo") -> str:
        """The one line scripts look for: `demo: sent=… acked=… received=… lost=0 duplicated=… recovered_ms=…`."""
        recovered = "none" if self.recovered_ms is None else str(self.recovered_ms)
        return (
            f"{name}: sent={self.sent} acked={self.acked} received={self.received} lost={self.lost}"
            f" duplicated={self.duplicated} recovered_ms={recovered}"
        )


class Ledger:
    """Books of one load run.

    Order is judged per partition by the numbers, so the generator hands messages to the client in the order in which
    it numbered them; one thread that counts upwards does that by itself.
    """

    def __init__(self, messages_max: int = MESSAGES_MAX) -> None:
        self._messages_max = messages_max
        self._acked_partition = array("i")  # by message number; _NOWHERE while not acknowledged
        self._acked_offset = array("q")
        self._acked = 0
        self._log: dict[int, dict[int, int]] = {}  # partition -> offset -> number, as read back
        self._was_read = bytearray()  # by message number
        self._received = 0
        self._redelivered = 0
        self._last_ack_ms: int | None = None
        self._interrupted_ms: int | None = None
        self._sent_before = 0  # the interruption
        self._survivor: MessagePlace | None = None
        self._silences: list[tuple[int, int, int]] = []  # a heap of (length, from, until), the shortest first
        self._silence_after: Silence | None = None

    @property
    def sent(self) -> int:
        """How many messages were handed to the client."""
        return len(self._acked_offset)

    @property
    def acked(self) -> int:
        """How many of them the broker acknowledged."""
        return self._acked

    @property
    def received(self) -> int:
        """How many different messages were read back."""
        return self._received

    @property
    def survivor(self) -> MessagePlace | None:
        """The last message that was sent before the interruption and acknowledged after it; None where there is none."""
        return self._survivor

    @property
    def silence(self) -> Silence | None:
        """The longest time between two acknowledgements; None before the second one."""
        return max(self.silences, key=lambda silence: silence.length_ms, default=None)

    @property
    def silences(self) -> list[Silence]:
        """The SILENCES_MAX longest times between two acknowledgements, in the order in which they came."""
        return [Silence(began, ended) for _, began, ended in sorted(self._silences, key=lambda one: one[1:])]

    def send(self) -> int:
        """Numbers the next message. Raises LedgerError when the ledger is full."""
        number = self.sent
        if number >= self._messages_max:
            raise LedgerError(f"the ledger holds at most {self._messages_max} messages: start a new one")
        self._acked_partition.append(_NOWHERE)
        self._acked_offset.append(_NOWHERE)
        self._was_read.append(0)
        return number

    def acknowledge(self, number: int, partition: int, offset: int, now_ms: int) -> None:
        """The broker acknowledged message `number` at `offset` of `partition`, at `now_ms`.

        Raises LedgerError when the number was never given out, or was acknowledged before.
        """
        if not 0 <= number < self.sent:
            raise LedgerError(f"message {number} was acknowledged but never sent ({self.sent} were)")
        if self._acked_offset[number] != _NOWHERE:
            raise LedgerError(f"message {number} was acknowledged twice")
        self._acked_partition[number] = partition
        self._acked_offset[number] = offset
        self._acked += 1
        if number < self._sent_before:
            self._survivor = MessagePlace(number, partition, offset)
        self._note_silence(now_ms)

    def interrupt(self, now_ms: int) -> None:
        """The broker was killed at `now_ms`; recovery is counted from here."""
        self._interrupted_ms = now_ms
        self._sent_before = self.sent
        self._silence_after = None

    def receive(self, number: int, partition: int, offset: int) -> None:
        """Message `number` was read at `offset` of `partition`; a number that was never sent is kept for the verdict.

        Raises LedgerError when the offset held another message before: offsets are never used again.
        """
        receipts = self._log.setdefault(partition, {})
        if offset not in receipts:
            receipts[offset] = number
            if 0 <= number < self.sent and not self._was_read[number]:
                self._was_read[number] = 1
                self._received += 1
        elif receipts[offset] == number:
            self._redelivered += 1
        else:
            raise LedgerError(
                f"offset {offset} of partition {partition} held message {receipts[offset]} and now holds {number}"
            )

    def missing(self) -> list[int]:
        """Numbers of the messages that were acknowledged and not read back (yet); a consumer may stop when empty."""
        return [
            number
            for number, (offset, seen) in enumerate(zip(self._acked_offset, self._was_read, strict=True))
            if offset != _NOWHERE and not seen
        ]

    def judge(self) -> Verdict:
        """Compares the books. May be called again after more receipts."""
        faults = _Faults()
        copies = self._judge_log(faults)
        for number in self.missing():
            place = f"offset {self._acked_offset[number]} of partition {self._acked_partition[number]}"
            faults.add("lost", f"message {number} was acknowledged at {place} and never read back")
        for number in self._misplaced():
            place = f"offset {self._acked_offset[number]} of partition {self._acked_partition[number]}"
            faults.add(
                "misplaced", f"message {number} was acknowledged at {place}, which did not hand it out"
            )
        return Verdict(
            sent=self.sent,
            acked=self._acked,
            unacked=self.sent - self._acked,
            received=self._received,
            lost=faults.count["lost"],
            disordered=faults.count["disordered"],
            misplaced=faults.count["misplaced"],
            strangers=faults.count["stranger"],
            duplicated=sum(count - 1 for count in copies.values()),
            redelivered=self._redelivered,
            recovered_ms=self._recovered_ms(),
            examples=tuple(faults.examples),
        )

    def _judge_log(self, faults: _Faults) -> Counter[int]:
        """Walks every partition in offset order: order of acknowledged messages, strangers; returns copies by number."""
        copies: Counter[int] = Counter()
        for partition in sorted(self._log):
            highest = -1
            for offset, number in sorted(self._log[partition].items()):
                copies[number] += 1
                place = f"offset {offset} of partition {partition}"
                if not 0 <= number < self.sent:
                    faults.add("stranger", f"message {number} at {place} was never sent")
                elif self._acked_offset[number] == _NOWHERE or copies[number] > 1:
                    continue  # nothing was promised about it, or it is a further copy
                elif number < highest:
                    faults.add(
                        "disordered", f"message {number} at {place} is behind the later message {highest}"
                    )
                else:
                    highest = number
        return copies

    def _misplaced(self) -> Iterator[int]:
        for number, offset in enumerate(self._acked_offset):
            if offset == _NOWHERE or not self._was_read[number]:
                continue
            if self._log.get(self._acked_partition[number], {}).get(offset) != number:
                yield number

    def _note_silence(self, now_ms: int) -> None:
        started = self._last_ack_ms if self._last_ack_ms is not None else self._interrupted_ms
        self._last_ack_ms = now_ms
        if started is None:
            return
        silence = Silence(started, now_ms)
        heapq.heappush(self._silences, (silence.length_ms, started, now_ms))
        if len(self._silences) > SILENCES_MAX:
            heapq.heappop(self._silences)
        if self._interrupted_ms is None or now_ms < self._interrupted_ms:
            return
        if self._silence_after is None or silence.length_ms > self._silence_after.length_ms:
            self._silence_after = silence

    def _recovered_ms(self) -> int | None:
        # Answers that were on their way when the broker died still arrive after it. So recovery does not end with
        # the first acknowledgement after the kill, but with the one that ends the longest silence after it.
        if self._interrupted_ms is None or self._silence_after is None:
            return None
        return self._silence_after.until_ms - self._interrupted_ms


class _Faults:
    """Counts by kind, and the first few of each in words."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, kind: str, sentence: str) -> None:
        self.count[kind] += 1
        if self.count[kind] <= EXAMPLES_MAX:
            self.examples.append(sentence)
