"""The availability matrix judges rightly: which cells there are, how long nothing came, what was lost and what was said."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

from penstock.testing.availability.books import Losses, Place, Records, Told, settle
from penstock.testing.availability.gaps import Gap, Window, longest_gap, measure
from penstock.testing.availability.matrix import Cause, Cell, Ending, Target, cells
from penstock.testing.availability.modes import LEASE_MS, MODES, majority
from penstock.testing.availability.trial import Effort, Outcome

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # bench/ is not installed.

from bench.availability_table import Row, write_table

# --- cells ---------------------------------------------------------------------------------------


def test_every_cause_befalls_a_follower_and_the_leader_with_none_some_and_all_others() -> None:
    found = list(cells(3, 2))
    assert {cell.cause for cell in found} == set(Cause)
    for cause in Cause:
        own = [(cell.hit, cell.target) for cell in found if cell.cause is cause and not cell.behind]
        assert own == [(1, Target.FOLLOWER), (1, Target.LEADER), (2, Target.LEADER), (3, Target.LEADER)]
    assert [cell for cell in found if cell.behind] == [Cell(Cause.WIPE, 2, 3, behind=True)]


@pytest.mark.parametrize(
    ("cause", "hit", "ending"),
    [
        (Cause.CRASH, 3, Ending.SERVES),
        (Cause.WIPE, 1, Ending.SERVES),
        (Cause.WIPE, 2, Ending.TRUSTED),
        (Cause.WIPE, 3, Ending.REFUSES),
    ],
)
def test_what_the_shard_owes(cause: Cause, hit: int, ending: Ending) -> None:
    assert Cell(cause, hit, 3).ending(majority(3)) is ending


def test_one_of_two_wiped_is_none_of_a_trust_where_one_broker_is_enough() -> None:
    assert Cell(Cause.WIPE, 1, 2).ending(1) is Ending.SERVES
    assert Cell(Cause.WIPE, 2, 2).ending(1) is Ending.REFUSES
    assert Cell(Cause.WIPE, 1, 2).ending(2) is Ending.TRUSTED


def test_the_leader_is_hit_first_and_a_follower_alone_never_leads() -> None:
    chosen = set()
    for seed in range(20):
        assert Cell(Cause.CRASH, 2, 3).victims(1, Random(seed))[0] == 1
        chosen |= set(Cell(Cause.CRASH, 1, 3, Target.FOLLOWER).victims(1, Random(seed)))
    assert chosen == {0, 2}
    assert sorted(Cell(Cause.CRASH, 3, 3).victims(1, Random(1))) == [0, 1, 2]


def test_raft_serves_with_a_majority() -> None:
    assert [MODES["Raft"].enough(brokers) for brokers in (1, 3, 5)] == [1, 2, 3]


def test_a_master_serves_with_min_in_sync_and_one_volume_is_enough_to_go_on() -> None:
    sync, lossy = MODES["MasterSlave-sync"], MODES["MasterSlave-async"]
    assert [sync.enough(brokers) for brokers in (1, 2, 3)] == [1, 1, 2]
    wipe = Cell(Cause.WIPE, 2, 3)
    assert [sync.ending(wipe), sync.ending(wipe._replace(hit=3))] == [Ending.SERVES, Ending.REFUSES]
    assert [lossy.ending(wipe), lossy.ending(wipe._replace(hit=3))] == [Ending.LOSES, Ending.REFUSES]
    assert lossy.ending(Cell(Cause.CRASH, 1, 3, Target.FOLLOWER)) is Ending.SERVES
    assert not [cell for cell in cells(3, sync.keepers(3)) if cell.behind]
    assert [mode.name for mode in MODES.values() if mode.absence.paused_s * 1000 > LEASE_MS] == [
        "MasterSlave-sync",
        "MasterSlave-async",
    ]


# --- gaps ----------------------------------------------------------------------------------------

EVERY_SECOND = [float(number) for number in range(11)]
HOLE = [*EVERY_SECOND, *(float(number) for number in range(16, 31))]


def test_a_gap_that_begins_before_the_damage_counts_whole() -> None:
    window = Window(ordinary=0.0, began=10.5, ended=30.0)
    assert measure(HOLE, window) == Gap(longest=6.0, usual=1.0)
    assert measure(HOLE, window).net_ms == 5000.0


def test_where_too_few_were_left_a_gap_counts_from_the_moment_when_enough_are_back() -> None:
    window = Window(ordinary=0.0, began=10.5, ended=30.0, counted=14.0)
    assert measure(HOLE, window) == Gap(longest=2.0, usual=1.0)


def test_a_gap_that_does_not_end_counts_to_the_end_of_the_window() -> None:
    assert longest_gap(EVERY_SECOND, 5.0, 30.0) == 20.0
    assert longest_gap([], 5.0, 30.0, whole=True) == 25.0


def test_a_fault_that_costs_no_more_than_an_ordinary_gap_costs_nothing() -> None:
    assert measure(EVERY_SECOND, Window(0.0, 5.0, 10.0)).net_ms == 0.0


# --- books ---------------------------------------------------------------------------------------


def places(numbers: range, *, epoch: int = 1, offset: int = 0) -> list[Place]:
    """Messages of one partition, one offset after the other."""
    return [Place(number, 0, offset + position, epoch) for position, number in enumerate(numbers)]


def test_a_good_run_has_nothing_wrong() -> None:
    found = settle(Records(5, places(range(5)), places(range(5)), places(range(5))), Ending.SERVES)
    assert (found.wrong, found.gone, found.verdict.lost) == ((), 0, 0)


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        (
            Records(5, places(range(5)), places(range(4)), places(range(4))),
            "1 acknowledged messages are lost",
        ),
        (Records(5, places(range(4)), places(range(5)), places(range(5))), "1 messages were given up"),
        (Records(4, places(range(4)), places(range(2)), places(range(4))), "not handed 2 messages, one is 2"),
        (
            Records(2, places(range(2)), places(range(2)), [Place(1, 0, 0), Place(0, 0, 1)]),
            "offset 0 of partition 0 held message 0 and now holds 1",
        ),
        (
            Records(2, [Place(1, 0, 0), Place(0, 0, 1)], [], [Place(1, 0, 0), Place(0, 0, 1)]),
            "1 messages are out of order",
        ),
        (
            Records(2, places(range(2)), [], [*places(range(2)), Place(1, 0, 2)]),
            "1 messages are there twice",
        ),
    ],
)
def test_what_must_not_be_is_said(records: Records, sentence: str) -> None:
    assert any(sentence in wrong for wrong in settle(records, Ending.SERVES).wrong)


def trusted(acked_before: int, kept: int, *, back: list[Place] | None = None) -> tuple[Records, Told]:
    """Messages 0 to 9 were acknowledged, `kept` of them are on the trusted copy, 10 to 14 came after it at their offsets."""
    after = places(range(10, 15), epoch=9, offset=kept)
    acked = [*places(range(10)), *after]
    there = back if back is not None else [*places(range(kept)), *after]
    return Records(15, acked, places(range(10)), there), Told(epoch=4, acked=acked_before)


def test_what_was_lost_is_what_a_trusted_member_did_not_hold() -> None:
    records, told = trusted(10, 7)
    found = settle(records, Ending.TRUSTED, told)
    assert (found.wrong, found.gone, found.verdict.lost) == ((), 3, 3)


def test_a_loss_that_was_not_said_is_wrong() -> None:
    records, told = trusted(10, 7, back=[*places(range(6)), *places(range(10, 15), epoch=9, offset=7)])
    # Message 6 is missing at offset 6, but the copy goes on behind it.
    records = records._replace(read_back=[*records.read_back, Place(99, 0, 6, 1)])
    wrong = settle(records, Ending.TRUSTED, told).wrong
    assert any("differing are [6]" in sentence for sentence in wrong)


def test_a_message_of_the_time_after_must_not_be_lost() -> None:
    records, told = trusted(10, 7)
    records = records._replace(read_back=records.read_back[:-1])
    assert any("differing are [14]" in sentence for sentence in settle(records, Ending.TRUSTED, told).wrong)


def test_a_reader_may_have_seen_what_is_gone_but_nothing_else_where_the_copy_is() -> None:
    records, told = trusted(10, 7)
    records = records._replace(read_along=[*records.read_along[:3], Place(8, 0, 3)])
    assert any("saw something else" in sentence for sentence in settle(records, Ending.TRUSTED, told).wrong)


def test_what_a_new_master_lacked_is_lost_as_it_was_said() -> None:
    for aside in (None, range(7, 12)):
        found = settle(*_lossy(7, aside=aside))
        assert (found.wrong, found.gone, found.verdict.lost) == ((), 3, 3)
    nothing = settle(*_lossy(10, epochs=()))
    assert (nothing.wrong, nothing.gone, nothing.verdict.lost) == ((), 0, 0)


@pytest.mark.parametrize(
    ("kept", "epochs", "aside"),
    [
        (7, (), None),  # nobody said it
        (7, (9,), range(8, 12)),  # offset 7 was not set aside
    ],
)
def test_a_loss_that_was_not_said_so_is_wrong(
    kept: int, epochs: tuple[int, ...], aside: range | None
) -> None:
    assert any(
        "acknowledged messages are lost" in wrong
        for wrong in settle(*_lossy(kept, epochs=epochs, aside=aside)).wrong
    )


def test_what_was_acknowledged_after_the_takeover_must_not_be_lost() -> None:
    records, ending, told = _lossy(7)
    records = records._replace(read_back=records.read_back[:-1])
    assert any("not [14]" in wrong for wrong in settle(records, ending, told).wrong)


def _lossy(
    kept: int, *, epochs: tuple[int, ...] = (9,), aside: range | None = None
) -> tuple[Records, Ending, Losses]:
    """Messages 0 to 9 were acknowledged, the new master held `kept` of them; 10 to 14 came after it, at the same offsets."""
    records, _ = trusted(10, kept)
    places_aside = None if aside is None else {(0, offset) for offset in aside}
    return records, Ending.LOSES, Losses(epochs, places_aside, acked=10)


def test_a_shard_that_is_gone_lost_everything() -> None:
    found = settle(Records(5, places(range(4)), [], []), Ending.REFUSES)
    assert (found.wrong, found.gone, found.verdict.lost) == ((), 4, 4)
    assert settle(Records(5, places(range(4)), [], places(range(1))), Ending.REFUSES).wrong


# --- the table -----------------------------------------------------------------------------------


def outcome(cell: Cell, said: str, gap_ms: float | None, records: Records) -> Outcome:
    gap = None if gap_ms is None else Gap(gap_ms / 1000 + 0.004, 0.004)
    return Outcome(cell, settle(records, cell.ending(2)), said, gap, gap)


def test_the_table_has_times_losses_and_sentences() -> None:
    good = Records(5, places(range(5)), places(range(5)), places(range(5)))
    crash, wipe = Cell(Cause.CRASH, 1, 3), Cell(Cause.WIPE, 3, 3)
    rows = [
        Row("Raft", crash, [outcome(crash, "another leads", ms, good) for ms in (40, 60, 1200)], []),
        Row(
            "Raft",
            wipe,
            [outcome(wipe, "it existed", None, Records(5, places(range(5)), [], []))],
            ["no end\nlog"],
        ),
    ]
    report = write_table(rows, "A machine", Effort())
    assert "| Raft | crash | 1 of 3 | 3 | 60 | 1,200 | 60 | 1,200 | 0 | 0 | 0 | another leads |" in report
    assert (
        "| Raft | wipe | 3 of 3 | 2, 1 failed | none | none | none | none | 5 (5 said) | 0 | 0 | it existed |"
        in report
    )
    assert "4 runs, 20 messages acknowledged" in report
    assert report.endswith("- Raft, wipe 3 of 3: no end")
    assert not rows[0].wrong
