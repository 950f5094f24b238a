"""The account of one run: what was acknowledged, what a consumer saw meanwhile and what is there in the end, judged by what
the shard owed.

Where a member was trusted, the records that the shard had before are told from later ones by the epoch that each of them
carries. So the end of the trusted copy is known per partition, and what was lost can be compared with what was said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.availability.matrix import Ending
from penstock.testing.ledger import Ledger, LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from penstock.testing.ledger import Verdict


class Place(NamedTuple):
    """Message `number` at an offset; `epoch` is the leader's that wrote it, -1 where nobody said."""

    number: int
    partition: int
    offset: int
    epoch: int = -1


class Records(NamedTuple):
    """What clients have seen: `sent` messages, those acknowledged in the order in which that came, those that a consumer read
    along, and all that is there in the end."""

    sent: int
    acked: Sequence[Place]
    read_along: Sequence[Place]
    read_back: Sequence[Place]


class Told(NamedTuple):
    """What the shard said may be gone: what was acknowledged before (the first `acked`) and is behind the end of the copy that
    was trusted, whose records carry epochs up to `epoch`."""

    epoch: int
    acked: int


class Losses(NamedTuple):
    """What the shard said of leaderships that began with a loss: their `epochs`, ascending, and the places (partition, offset)
    of messages that were set aside, None where whoever had them lost its volume. What was acknowledged from `acked` on is of
    the time after. `wrong`: it contradicts itself."""

    epochs: tuple[int, ...]
    aside: AbstractSet[tuple[int, int]] | None
    acked: int = 0
    wrong: tuple[str, ...] = ()


class Account(NamedTuple):
    """`gone`: how many acknowledged messages were lost as it was said. `wrong` has a sentence for all that must not be."""

    verdict: Verdict
    gone: int
    wrong: tuple[str, ...]


def settle(records: Records, ending: Ending, told: Told | Losses | None = None) -> Account:
    """Compares the books. `told` is needed where a member was trusted, and where a leader may lack something."""
    if ending is Ending.SERVES:
        return _served(records)
    if ending is Ending.REFUSES:
        return _refused(records)
    if ending is Ending.LOSES:
        assert isinstance(told, Losses), "what may be lost was not asked for"
        return _lossy(records, told)
    assert isinstance(told, Told), "what may be gone was not said"
    return _trusted(records, told)


def _served(records: Records) -> Account:
    ledger, wrong = _ledger(records, [*records.read_along, *records.read_back])
    verdict = ledger.judge()
    wrong += _always(verdict)
    if verdict.lost:
        wrong.append(f"{verdict.lost} acknowledged messages are lost")
    if verdict.unacked:
        wrong.append(f"{verdict.unacked} messages were given up by the client")
    unseen = {place.number for place in records.acked} - {place.number for place in records.read_along}
    if unseen:
        wrong.append(
            f"the consumer that read along was not handed {len(unseen)} messages, one is {min(unseen)}"
        )
    return Account(verdict, 0, tuple(wrong))


def _trusted(records: Records, told: Told) -> Account:
    ledger, wrong = _ledger(records, records.read_back)
    verdict = ledger.judge()
    wrong += _always(verdict)
    kept = _kept_ends(records.read_back, told.epoch)
    gone = {
        place.number for place in records.acked[: told.acked] if place.offset >= kept.get(place.partition, 0)
    }
    lost = set(ledger.missing())
    if lost != gone:
        wrong.append(
            f"{len(lost)} acknowledged messages are lost, {len(gone)} were said to be gone: differing are"
            f" {sorted(lost ^ gone)[:10]}"
        )
    wrong += _moved(records, kept)
    return Account(verdict, len(gone), tuple(wrong))


def _lossy(records: Records, told: Losses) -> Account:
    """Lost is what who took over lacked, and only that: it lies behind the end of its log as it was then, was acknowledged
    before, and is among what was set aside."""
    ledger, wrong = _ledger(records, records.read_back)
    verdict = ledger.judge()
    wrong += _always(verdict)
    lost = set(ledger.missing())
    kept = _kept_ends(records.read_back, told.epochs[0] - 1) if told.epochs else {}
    gone = {
        place.number
        for place in records.acked[: told.acked]
        if told.epochs
        and place.number in lost
        and place.offset >= kept.get(place.partition, 0)
        and (told.aside is None or (place.partition, place.offset) in told.aside)
    }
    if lost != gone:
        wrong.append(
            f"{len(lost)} acknowledged messages are lost, {len(gone)} of them as was said: not {sorted(lost - gone)[:10]}"
        )
    if told.epochs:
        wrong += _moved(records, kept)
    return Account(verdict, len(gone), tuple(wrong))


def _moved(records: Records, kept: Mapping[int, int]) -> list[str]:
    """What a consumer saw below the ends of what was kept is there still."""
    there = {(place.partition, place.offset): place.number for place in records.read_back}
    moved = [
        place
        for place in records.read_along
        if place.offset < kept.get(place.partition, 0)
        and there.get((place.partition, place.offset)) != place.number
    ]
    return [f"the consumer that read along saw something else at {moved[0]}"] if moved else []


def _refused(records: Records) -> Account:
    ledger, wrong = _ledger(records, records.read_back)
    verdict = ledger.judge()
    if records.read_back:
        wrong.append(f"{len(records.read_back)} messages were read from a shard that is gone")
    return Account(verdict, verdict.acked, tuple(wrong))


def _ledger(records: Records, read: Sequence[Place]) -> tuple[Ledger, list[str]]:
    """The books, and what contradicts itself in them."""
    ledger, wrong = Ledger(), []
    for _ in range(records.sent):
        ledger.send()
    try:
        for place in records.acked:
            ledger.acknowledge(place.number, place.partition, place.offset, 0)
        for place in read:
            ledger.receive(place.number, place.partition, place.offset)
    except LedgerError as error:
        wrong.append(str(error))
    return ledger, wrong


def _always(verdict: Verdict) -> list[str]:
    """What is wrong whatever happened."""
    counts = {
        "out of order": verdict.disordered,
        "at another offset than was said": verdict.misplaced,
        "there though never sent": verdict.strangers,
        "there twice": verdict.duplicated,
    }
    return [f"{count} messages are {words}" for words, count in counts.items() if count]


def _kept_ends(read_back: Sequence[Place], epoch: int) -> dict[int, int]:
    """By partition, the offset behind the last record that was written in an epoch up to that one."""
    ends: dict[int, int] = {}
    for place in read_back:
        if place.epoch <= epoch:
            ends[place.partition] = max(ends.get(place.partition, 0), place.offset + 1)
    return ends
