"""Rules of the classic coordinator for dynamic members, one example each."""

from __future__ import annotations

import msgspec
import pytest

from groups_harness import RANGE, SETTINGS, Bench
from penstock.groups.requests import Leaving
from penstock.groups.settings import GroupSettings
from penstock.groups.states import GroupState
from penstock.model.errors import ErrorCode

ROUND_ROBIN_FIRST = (("roundrobin", b"rr"), ("range", b"r"))


def test_first_member_leads_after_the_initial_delay() -> None:
    bench = Bench()
    token = bench.join()
    bench.advance(2_999)
    assert token not in bench.replies
    assert bench.group.state is GroupState.PREPARING_REBALANCE
    bench.advance(1)
    joined = bench.joined(token)
    assert (joined.error, joined.generation, joined.protocol, joined.protocol_type) == (
        ErrorCode.NONE,
        1,
        "range",
        "consumer",
    )
    assert joined.leader == joined.member_id == "c-s1"
    assert joined.members == (("c-s1", None, b"r"),)
    assert bench.group.state is GroupState.COMPLETING_REBALANCE


def test_initial_delay_is_prolonged_by_newcomers_up_to_the_rebalance_timeout() -> None:
    # KIP-134: each newcomer prolongs the wait by the delay, up to the rebalance timeout in all.
    bench = Bench()
    tokens = [bench.join(rebalance=8_000)]
    for _ in range(2):
        bench.advance(2_500)
        tokens.append(bench.join(rebalance=8_000))
    bench.advance(1_000)
    assert not bench.replies
    bench.advance(2_000)
    assert len(bench.replies) == 3
    assert {bench.joined(token).generation for token in tokens} == {1}


def test_initial_delay_of_zero_answers_at_once() -> None:
    bench = Bench(GroupSettings(initial_rebalance_delay_ms=0))
    assert bench.joined(bench.join()).generation == 1


def test_member_id_comes_before_membership() -> None:
    # KIP-394.
    bench = Bench()
    first = bench.joined(bench.join(known=True))
    assert (first.error, first.member_id) == (ErrorCode.MEMBER_ID_REQUIRED, "c-s1")
    assert bench.group.state is GroupState.EMPTY
    assert bench.heartbeat("c-s1") is ErrorCode.UNKNOWN_MEMBER_ID
    token = bench.join("c-s1", known=True)
    bench.advance(3_000)
    assert bench.joined(token).member_id == "c-s1"


def test_pending_member_id_lapses_with_its_session_timeout() -> None:
    bench = Bench()
    member_id = bench.joined(bench.join(known=True, session=10_000)).member_id
    bench.advance(10_000)
    assert bench.joined(bench.join(member_id)).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.group.idle


def test_pending_member_holds_up_the_rebalance_until_it_joins_or_lapses() -> None:
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    pending = bench.joined(bench.join(known=True)).member_id
    rejoin = bench.join(leader)
    assert rejoin not in bench.replies
    other = bench.join(pending)
    assert bench.joined(rejoin).generation == bench.joined(other).generation == 2


def test_pending_members_are_bounded() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, pending_members_max=2))
    errors = [bench.joined(bench.join(known=True)).error for _ in range(3)]
    required = ErrorCode.MEMBER_ID_REQUIRED
    assert errors == [required, required, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS]


def test_member_id_starts_with_a_bounded_part_of_the_client_id() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, client_id_length_max=5))
    assert bench.joined(bench.join(client="x" * 100, known=True)).member_id == "xxxxx-s1"


def test_sync_of_followers_waits_for_the_leaders_assignment_in_the_log() -> None:
    bench = Bench()
    one, two = bench.join(), bench.join()
    bench.advance(6_000)
    leader, follower = bench.joined(one).member_id, bench.joined(two).member_id
    bench.auto_save = False
    early = bench.sync(follower)
    late = bench.sync(leader, assignments={leader: b"A", follower: b"B"})
    assert {early, late} == bench.parked
    append = bench.settle()
    assert bench.synced(early).assignment == b"B"
    assert bench.synced(late).assignment == b"A"
    assert bench.group.state is GroupState.STABLE
    record = append.command
    assert (record.generation, record.leader, record.protocol) == (1, leader, "range")
    assert [(m.member_id, m.assignment) for m in record.members] == [(leader, b"A"), (follower, b"B")]


def test_failed_write_of_the_assignment_fails_the_syncs_and_rebalances() -> None:
    bench = Bench()
    token = bench.join()
    bench.advance(3_000)
    bench.auto_save = False
    member = bench.joined(token).member_id
    sync = bench.sync(member, assignments={member: b"A"})
    bench.settle(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert bench.synced(sync).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_late_outcome_of_a_write_does_not_make_a_newer_rebalance_stable() -> None:
    bench = Bench()
    token = bench.join()
    bench.advance(3_000)
    bench.auto_save = False
    member = bench.joined(token).member_id
    sync = bench.sync(member, assignments={member: b"A"})
    bench.join()
    assert bench.synced(sync).error is ErrorCode.REBALANCE_IN_PROGRESS
    bench.settle()
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_assignment_for_strangers_is_ignored_and_a_missing_one_is_empty() -> None:
    bench = Bench()
    one, two = bench.join(), bench.join()
    bench.advance(6_000)
    leader, follower = bench.joined(one).member_id, bench.joined(two).member_id
    bench.sync(leader, assignments={"stranger": b"X", leader: b"A"})
    assert bench.synced(bench.sync(follower)).assignment == b""
    assert [m.member_id for m in bench.saved[-1].members] == [leader, follower]


def test_assignments_beyond_the_bound_are_refused() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, group_bytes_max=10))
    token = bench.join()
    bench.advance(3_000)
    member = bench.joined(token).member_id
    sync = bench.sync(member, assignments={member: b"x" * 11})
    assert bench.synced(sync).error is ErrorCode.MESSAGE_TOO_LARGE
    assert (
        bench.joined(bench.join(protocols=(("range", b"x" * 10),))).error is ErrorCode.GROUP_MAX_SIZE_REACHED
    )


def test_new_member_makes_everybody_rejoin() -> None:
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    assert bench.heartbeat(leader) is ErrorCode.NONE
    newcomer = bench.join()
    assert bench.heartbeat(leader) is ErrorCode.REBALANCE_IN_PROGRESS
    assert bench.synced(bench.sync(leader)).error is ErrorCode.REBALANCE_IN_PROGRESS
    rejoin = bench.join(leader)
    assert bench.joined(rejoin).generation == bench.joined(newcomer).generation == 2
    assert bench.joined(newcomer).leader == leader
    assert len(bench.joined(rejoin).members) == 2
    assert bench.joined(newcomer).members == ()


def test_member_that_does_not_rejoin_in_time_is_left_out() -> None:
    bench = Bench()
    leader, other = bench.stable((None, RANGE), (None, RANGE))
    rejoin = bench.join(leader, rebalance=20_000)
    for _ in range(11):
        bench.advance(5_000)
        bench.heartbeat(other, 1)
    assert rejoin not in bench.replies
    bench.advance(5_000)
    assert bench.joined(rejoin).members == ((leader, None, b"r"),)
    assert bench.heartbeat(other) is ErrorCode.UNKNOWN_MEMBER_ID


def test_rebalance_timeout_is_the_longest_of_the_members() -> None:
    bench = Bench()
    first, second = bench.join(rebalance=10_000), bench.join(rebalance=90_000)
    bench.advance(6_000)
    assert bench.joined(first).generation == bench.joined(second).generation == 1
    assert bench.group.roster.rebalance_timeout_ms == 90_000


def test_session_ends_without_heartbeats_and_not_with_them() -> None:
    bench = Bench()
    leader, other = bench.stable((None, RANGE), (None, RANGE))
    for _ in range(4):
        bench.advance(6_000)
        bench.heartbeat(leader, 1)
    assert bench.heartbeat(other, 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat(leader, 1) is ErrorCode.REBALANCE_IN_PROGRESS


def test_last_member_gone_leaves_an_empty_generation_in_the_log() -> None:
    bench = Bench()
    (leader,) = bench.stable((None, RANGE))
    bench.advance(10_000)
    assert bench.group.state is GroupState.EMPTY
    assert (bench.saved[-1].generation, bench.saved[-1].members) == (2, ())
    assert bench.group.idle
    assert bench.heartbeat(leader) is ErrorCode.UNKNOWN_MEMBER_ID


def test_empty_generation_is_written_again_when_the_log_refused_it() -> None:
    bench = Bench()
    (leader,) = bench.stable((None, RANGE))
    bench.auto_save = False
    assert bench.leave(Leaving(leader, None)) == [ErrorCode.NONE]
    assert not bench.group.idle
    bench.settle(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert not bench.group.idle
    bench.advance(SETTINGS.save_retry_ms)
    bench.settle()
    assert bench.group.idle


def test_member_that_never_syncs_is_removed_after_the_rebalance_timeout() -> None:
    # KAFKA-12890.
    bench = Bench()
    one, two = bench.join(session=1_000_000), bench.join(session=1_000_000)
    bench.advance(6_000)
    leader, silent = bench.joined(one).member_id, bench.joined(two).member_id
    bench.sync(leader)
    assert bench.group.state is GroupState.STABLE
    bench.advance(59_999)
    assert bench.heartbeat(silent, 1) is ErrorCode.NONE
    bench.advance(1)
    assert bench.heartbeat(silent, 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat(leader, 1) is ErrorCode.REBALANCE_IN_PROGRESS


def test_new_member_whose_client_gave_up_joining_is_dropped_after_five_minutes() -> None:
    # KAFKA-4285 / KIP-394's neighbour: a parked first join proves life for a limited time only.
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    bench.join(leader, rebalance=10_000_000, protocols=(("range", b"other"),))
    bench.sync(leader)
    newcomer = bench.join(rebalance=10_000_000)
    for _ in range(60):
        bench.advance(5_000)
        bench.heartbeat(leader)
    assert bench.joined(newcomer).error is ErrorCode.UNKNOWN_MEMBER_ID


def test_leave_starts_a_rebalance_at_once_and_passes_leadership_on() -> None:
    bench = Bench()
    leader, other = bench.stable((None, RANGE), (None, RANGE))
    assert bench.leave(Leaving(leader, None)) == [ErrorCode.NONE]
    assert bench.heartbeat(other, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    assert bench.joined(bench.join(other)).leader == other


def test_leave_answers_what_the_member_still_waits_for() -> None:
    bench = Bench()
    one, two = bench.join(), bench.join()
    bench.advance(6_000)
    follower = bench.joined(two).member_id
    sync = bench.sync(follower)
    bench.leave(Leaving(follower, None))
    assert bench.synced(sync).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.leave(Leaving("nobody", None)) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert bench.joined(one).generation == 1


def test_leave_of_a_pending_member_lets_the_rebalance_go_on() -> None:
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    pending = bench.joined(bench.join(known=True)).member_id
    rejoin = bench.join(leader)
    assert bench.leave(Leaving(pending, None)) == [ErrorCode.NONE]
    assert bench.joined(rejoin).generation == 2


def test_protocol_is_voted_for_among_the_common_ones() -> None:
    bench = Bench()
    tokens = [
        bench.join(protocols=(("sticky", b""), ("roundrobin", b"1"), ("range", b"1"))),
        bench.join(protocols=(("range", b"2"), ("roundrobin", b"2"))),
        bench.join(protocols=(("range", b"3"), ("roundrobin", b"3"))),
    ]
    bench.advance(10_000)
    assert {bench.joined(token).protocol for token in tokens} == {"range"}
    assert [data for _, _, data in bench.joined(tokens[0]).members] == [b"1", b"2", b"3"]


def test_a_tied_vote_goes_to_the_longest_member() -> None:
    bench = Bench()
    token = bench.join(protocols=ROUND_ROBIN_FIRST)
    bench.join(protocols=tuple(reversed(ROUND_ROBIN_FIRST)))
    bench.advance(10_000)
    assert bench.joined(token).protocol == "roundrobin"


@pytest.mark.parametrize(
    ("protocols", "protocol_type"),
    [((("other", b""),), "consumer"), (RANGE, "connect"), ((), "consumer"), (RANGE, "")],
)
def test_member_without_a_common_protocol_is_refused(
    protocols: tuple[tuple[str, bytes], ...], protocol_type: str
) -> None:
    bench = Bench()
    bench.stable((None, RANGE))
    token = bench.join(protocols=protocols, protocol_type=protocol_type)
    assert bench.joined(token).error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.group.state is GroupState.STABLE


def test_sole_member_may_change_to_another_protocol() -> None:
    bench = Bench()
    (leader,) = bench.stable((None, RANGE))
    assert bench.joined(bench.join(leader, protocols=(("sticky", b"s"),))).protocol == "sticky"


@pytest.mark.parametrize("session", [5_999, 1_800_001, -1])
def test_session_timeout_outside_the_bounds_is_refused(session: int) -> None:
    bench = Bench()
    assert bench.joined(bench.join(session=session)).error is ErrorCode.INVALID_SESSION_TIMEOUT


def test_group_size_is_bounded() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, members_max=2))
    leader, other = bench.stable((None, RANGE), (None, RANGE))
    assert bench.joined(bench.join()).error is ErrorCode.GROUP_MAX_SIZE_REACHED
    # A member of a full group may still rejoin.
    rejoin = bench.join(leader)
    bench.join(other)
    assert bench.joined(rejoin).generation == 2


def test_unchanged_follower_that_rejoins_a_stable_group_disturbs_nobody() -> None:
    bench = Bench()
    leader, follower = bench.stable((None, RANGE), (None, RANGE))
    joined = bench.joined(bench.join(follower))
    assert (joined.generation, joined.leader, joined.members) == (1, leader, ())
    assert bench.group.state is GroupState.STABLE
    bench.join(follower, protocols=(("range", b"changed"),))
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_leader_that_rejoins_a_stable_group_asks_for_a_rebalance() -> None:
    bench = Bench()
    leader, _ = bench.stable((None, RANGE), (None, RANGE))
    bench.join(leader)
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_unchanged_member_that_missed_its_answer_gets_it_again() -> None:
    bench = Bench()
    one, two = bench.join(), bench.join()
    bench.advance(6_000)
    leader, follower = bench.joined(one).member_id, bench.joined(two).member_id
    again = bench.joined(bench.join(leader))
    assert again == bench.joined(one)
    bench.join(follower, protocols=(("range", b"changed"),))
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_second_join_of_a_member_answers_its_first() -> None:
    bench = Bench()
    leader, _ = bench.stable((None, RANGE), (None, RANGE))
    first = bench.join(leader)
    second = bench.join(leader)
    assert bench.joined(first).error is ErrorCode.REBALANCE_IN_PROGRESS
    assert second in bench.parked


def test_second_sync_of_a_member_answers_its_first() -> None:
    bench = Bench()
    _, two = bench.join(), bench.join()
    bench.advance(6_000)
    follower = bench.joined(two).member_id
    first = bench.sync(follower)
    second = bench.sync(follower)
    assert bench.synced(first).error is ErrorCode.REBALANCE_IN_PROGRESS
    assert second in bench.parked


def test_wrong_generation_is_refused_everywhere() -> None:
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    assert bench.heartbeat(leader, 0) is ErrorCode.ILLEGAL_GENERATION
    assert bench.synced(bench.sync(leader, 2)).error is ErrorCode.ILLEGAL_GENERATION
    assert bench.commit(leader, 2) is ErrorCode.ILLEGAL_GENERATION


def test_sync_checks_protocol_names_when_given() -> None:
    # KIP-559.
    bench = Bench()
    leader, *_ = bench.stable((None, RANGE))
    wrong = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.synced(bench.sync(leader, protocol_type="connect")).error is wrong
    assert bench.synced(bench.sync(leader, protocol="sticky")).error is wrong
    fine = bench.synced(bench.sync(leader, protocol_type="consumer", protocol="range"))
    assert (fine.error, fine.protocol) == (ErrorCode.NONE, "range")
