"""How the in-sync set changes, step by step, and which sets count meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from lease_scene import ME, OTHER, THIRD, record
from penstock.replication.in_sync_set import commit_sets, next_step, why_writes_are_refused

BOTH, ALONE, ALL = frozenset({ME, OTHER}), frozenset({ME}), frozenset({ME, OTHER, THIRD})


def test_a_change_is_two_writes() -> None:
    before = record(in_sync=(ME, OTHER))
    assert next_step(before, BOTH) == (BOTH, None)
    assert next_step(before, ALONE) == (BOTH, ALONE)
    between = msgspec.structs.replace(before, pending=ALONE)
    assert next_step(between, ALONE) == (ALONE, None)


def test_a_change_that_is_not_wanted_any_more_is_taken_back() -> None:
    between = record(in_sync=(ME, OTHER), pending=(ME,))
    assert next_step(between, BOTH) == (BOTH, None)


def test_a_change_that_was_overtaken_begins_anew() -> None:
    between = record(in_sync=(ME, OTHER), pending=(ME,))
    assert next_step(between, ALL) == (BOTH, ALL)


def test_without_a_change_the_recorded_set_counts() -> None:
    assert commit_sets(record(in_sync=(ME, OTHER)), [], BOTH) == (BOTH,)


def test_who_is_to_join_counts_from_when_it_was_proposed() -> None:
    assert commit_sets(record(in_sync=(ME,)), [], BOTH) == (ALONE, BOTH)


def test_who_is_to_leave_counts_until_the_lease_says_so() -> None:
    assert commit_sets(record(in_sync=(ME, OTHER)), [], ALONE) == (BOTH,)
    assert commit_sets(record(in_sync=(ME, OTHER), pending=(ME,)), [], ALONE) == (BOTH, ALONE)
    assert commit_sets(record(in_sync=(ME,)), [], ALONE) == (ALONE,)


def test_what_a_write_in_doubt_may_have_done_counts() -> None:
    known = record(in_sync=(ME, OTHER), pending=(ME,))
    assert commit_sets(known, [record(in_sync=(ME,))], BOTH) == (BOTH, ALONE)
    assert commit_sets(record(in_sync=(ME,)), [record(in_sync=(ME,), pending=(ME, OTHER))], ALONE) == (
        ALONE,
        BOTH,
    )


@pytest.mark.parametrize(
    ("sets", "least", "refused"),
    [((BOTH,), 2, False), ((BOTH, ALONE), 2, True), ((ALONE,), 1, False), ((ALL, BOTH), 3, True)],
)
def test_writes_are_refused_while_there_may_be_too_few_copies(
    sets: tuple[frozenset[int], ...], least: int, refused: bool
) -> None:
    assert (why_writes_are_refused(sets, least) is not None) is refused


def test_the_refusal_says_what_to_do() -> None:
    assert why_writes_are_refused((ALONE,), 2) == (
        "1 of the 2 copies that minInSync asks for are in sync: bring back a broker, or lower minInSync"
    )
