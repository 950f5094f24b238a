"""Commits by state, cooperative rebalancing, restoring, eviction and death of a classic group."""

from __future__ import annotations

import msgspec
import pytest

from groups_harness import RANGE, SETTINGS, Bench
from penstock.groups.requests import Leaving
from penstock.groups.states import GroupState, check_transition
from penstock.model.errors import ErrorCode


def test_commit_rule_by_state() -> None:
    bench = Bench()
    assert bench.commit() is ErrorCode.NONE
    assert bench.commit("m", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    token = bench.join()
    bench.advance(3_000)
    member = bench.joined(token).member_id
    assert bench.commit(member, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    bench.sync(member)
    assert bench.commit(member, 1) is ErrorCode.NONE
    # Simple consumers may not interfere with a group that has members.
    assert bench.commit() is ErrorCode.UNKNOWN_MEMBER_ID
    # KIP-429: while the next generation forms, members may still commit with theirs.
    bench.join()
    assert bench.group.state is GroupState.PREPARING_REBALANCE
    assert bench.commit(member, 1) is ErrorCode.NONE


def test_commit_keeps_the_session_alive() -> None:
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    for _ in range(5):
        bench.advance(9_000)
        assert bench.commit(leader, 1) is ErrorCode.NONE


def test_cooperative_members_go_on_in_their_generation_while_the_next_forms() -> None:
    # KIP-429: first generation assigns less, owners revoke and rejoin, second generation assigns the rest.
    cooperative = (("cooperative-sticky", b"owned"),)
    bench = Bench()
    owner, *_ = bench.stable((None, cooperative))
    newcomer = bench.join(protocols=(("cooperative-sticky", b"none"),))
    assert bench.commit(owner, 1) is ErrorCode.NONE
    assert bench.heartbeat(owner, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    bench.join(owner, protocols=cooperative)
    other = bench.joined(newcomer).member_id
    bench.sync(other)
    bench.sync(owner, assignments={owner: b"kept", other: b""})
    rejoin = bench.join(owner, protocols=(("cooperative-sticky", b"revoked"),))
    assert bench.commit(other, 2) is ErrorCode.NONE
    assert bench.joined(bench.join(other, protocols=(("cooperative-sticky", b"none"),))).generation == 3
    assert bench.joined(rejoin).members[0][2] == b"revoked"
    follower = bench.sync(other)
    bench.sync(owner, assignments={owner: b"kept", other: b"moved"})
    assert bench.synced(follower).assignment == b"moved"


def test_restored_group_goes_on_without_a_rebalance() -> None:
    before = Bench()
    leader, follower = before.stable((None, RANGE), ("i", RANGE))
    bench = Bench(record=before.saved[-1])
    assert bench.group.state is GroupState.STABLE
    assert bench.heartbeat(leader, 1) is ErrorCode.NONE
    assert bench.heartbeat(follower, 1, "i") is ErrorCode.NONE
    assert bench.commit(leader, 1) is ErrorCode.NONE
    assert bench.synced(bench.sync(leader)).assignment == f"for-{leader}".encode()
    assert bench.joined(bench.join(follower, "i")).generation == 1
    # Sessions began anew with the restart.
    bench.advance(9_999)
    assert bench.group.state is GroupState.STABLE
    bench.advance(1)
    assert bench.group.state is GroupState.EMPTY
    assert bench.group.generation == 2


def test_restored_empty_group_keeps_its_generation() -> None:
    before = Bench()
    before.stable((None, RANGE))
    before.advance(10_000)
    bench = Bench(record=before.saved[-1])
    assert bench.group.state is GroupState.EMPTY
    token = bench.join()
    bench.advance(3_000)
    assert bench.joined(token).generation == 3


def test_evicted_members_have_to_join_anew() -> None:
    bench = Bench()
    leader, other = bench.stable((None, RANGE), (None, RANGE))
    parked = bench.join(leader)
    bench.run(bench.group.evict_all(bench.now))
    assert bench.joined(parked).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.commit(other, 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.group.state is GroupState.EMPTY
    assert bench.saved[-1].members == ()


def test_dead_group_answers_everything_parked_and_refuses_the_rest() -> None:
    bench = Bench()
    parked = bench.join()
    bench.run(bench.group.kill(ErrorCode.NOT_COORDINATOR))
    assert bench.joined(parked).error is ErrorCode.NOT_COORDINATOR
    gone = ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert bench.joined(bench.join()).error is gone
    assert bench.synced(bench.sync("m")).error is gone
    assert bench.heartbeat("m") is gone
    assert bench.commit() is gone
    assert bench.leave(Leaving("m", None)) == [gone]
    assert bench.group.next_deadline_ms() is None


def test_transition_that_does_not_exist_names_both_states() -> None:
    with pytest.raises(AssertionError, match="from Empty to Stable"):
        check_transition("g", GroupState.EMPTY, GroupState.STABLE)


def test_empty_generation_is_not_written_again_once_there_are_members() -> None:
    bench = Bench()
    (leader,) = bench.stable((None, RANGE))
    bench.auto_save = False
    bench.leave(Leaving(leader, None))
    bench.settle(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    bench.join(session=1_000_000)
    bench.advance(20_000)
    assert bench.appends == []


def test_assignment_is_written_once_however_often_the_leader_syncs() -> None:
    bench = Bench()
    token = bench.join()
    bench.advance(3_000)
    member = bench.joined(token).member_id
    bench.auto_save = False
    bench.sync(member, assignments={member: b"first"})
    again = bench.sync(member, assignments={member: b"second"})
    assert len(bench.appends) == 1
    bench.settle()
    assert bench.synced(again).assignment == b"first"


def test_heartbeat_of_a_member_that_has_not_joined_yet_changes_no_deadline() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, initial_rebalance_delay_ms=200_000))
    token = bench.join(session=6_000, rebalance=1_000_000)
    (newcomer,) = bench.group.roster.by_id
    bench.heartbeat(newcomer)
    bench.advance(100_000)
    assert token in bench.parked


def test_while_a_rebalance_gathers_members_the_first_to_come_are_in() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, members_max=2))
    leader, late = bench.stable((None, RANGE), (None, RANGE))
    bench.join(leader)
    newcomer = bench.join()
    # The group is full now, even for a member of the last generation.
    assert bench.joined(bench.join(late)).error is ErrorCode.GROUP_MAX_SIZE_REACHED
    bench.leave(Leaving(late, None))
    assert bench.joined(newcomer).generation == 2
