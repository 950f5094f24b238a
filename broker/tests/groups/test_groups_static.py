"""Static members (KIP-345), skipped assignments (KIP-814), and what of them must be in the log (KAFKA-10284)."""

from __future__ import annotations

import msgspec
import pytest

from groups_harness import RANGE, SETTINGS, Bench, subscription
from penstock.groups.commands import GroupMemberReplaced
from penstock.groups.requests import Leaving
from penstock.groups.states import GroupState
from penstock.model.errors import ErrorCode

TWO = (("a", RANGE), ("b", RANGE))


def test_static_member_needs_no_second_step_and_has_its_instance_in_its_id() -> None:
    bench = Bench()
    token = bench.join(instance="a", known=True)
    bench.advance(3_000)
    assert bench.joined(token).member_id == "a-s1"


def test_restarted_follower_takes_its_place_without_a_rebalance() -> None:
    bench = Bench()
    leader, old = bench.stable(*TWO)
    joined = bench.joined(bench.join(instance="b"))
    assert (joined.error, joined.generation, joined.leader, joined.members) == (ErrorCode.NONE, 1, leader, ())
    assert joined.member_id != old
    assert bench.group.state is GroupState.STABLE
    assert bench.synced(bench.sync(joined.member_id, instance="b")).assignment == f"for-{old}".encode()
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert bench.heartbeat(old, 1, "b") is fenced
    assert bench.synced(bench.sync(old, instance="b")).error is fenced
    assert bench.commit(old, 1, "b") is fenced
    assert bench.joined(bench.join(old, "b")).error is fenced
    assert bench.leave(Leaving(old, "b")) == [fenced]


def test_new_member_id_is_answered_only_once_it_is_in_the_log() -> None:
    bench = Bench()
    _, old = bench.stable(*TWO)
    bench.auto_save = False
    token = bench.join(instance="b")
    assert token in bench.parked
    (append,) = bench.appends
    assert isinstance(append.command, GroupMemberReplaced)
    bench.settle()
    assert bench.joined(token).member_id == append.command.member.member_id != old


def test_member_id_that_could_not_be_written_is_never_told() -> None:
    bench = Bench()
    bench.stable(*TWO)
    bench.auto_save = False
    token = bench.join(instance="b")
    bench.settle(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert bench.joined(token).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    again = bench.join(instance="b")
    bench.settle()
    assert bench.joined(again).error is ErrorCode.NONE
    assert bench.group.state is GroupState.STABLE


def test_rebalance_waits_for_the_new_member_id_to_be_in_the_log() -> None:
    bench = Bench()
    leader, _ = bench.stable(*TWO)
    rejoin = bench.join(leader, "a")
    bench.auto_save = False
    token = bench.join(instance="b")
    assert bench.parked == {rejoin, token}
    bench.advance(4_000)
    bench.settle()
    assert bench.joined(rejoin).generation == bench.joined(token).generation == 2


def test_restarted_leader_that_can_skip_the_assignment_is_told_so() -> None:
    # KIP-814.
    bench = Bench()
    old, other = bench.stable(*TWO)
    joined = bench.joined(bench.join(instance="a", skip=True))
    assert joined.skip_assignment
    assert joined.leader == joined.member_id != old
    assert [member_id for member_id, _, _ in joined.members] == [joined.member_id, other]
    follower = bench.joined(bench.join(instance="b", skip=True))
    assert not follower.skip_assignment


def test_restarted_leader_that_cannot_skip_is_not_told_that_it_leads() -> None:
    bench = Bench()
    old, _ = bench.stable(*TWO)
    joined = bench.joined(bench.join(instance="a"))
    assert (joined.leader, joined.members, joined.skip_assignment) == (old, (), False)
    assert bench.synced(bench.sync(joined.member_id, instance="a")).assignment == f"for-{old}".encode()
    # It leads all the same: its next join asks for a rebalance.
    bench.join(joined.member_id, "a")
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_restart_that_changes_the_selected_protocol_rebalances() -> None:
    both = (("range", b"r"), ("sticky", b"s"))
    bench = Bench()
    bench.stable(("a", both), ("b", both))
    bench.join(instance="b", protocols=(("sticky", b"s"),))
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_restart_with_another_subscription_rebalances_and_with_other_owned_data_does_not() -> None:
    bench = Bench()
    bench.stable(("a", (("range", subscription("t")),)), ("b", (("range", subscription("t")),)))
    bench.join(instance="b", protocols=(("range", subscription("t") + b"extra"),))
    assert bench.group.state is GroupState.STABLE
    bench.join(instance="b", protocols=(("range", subscription("t", "u")),))
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_restart_while_a_generation_is_completing_rebalances() -> None:
    bench = Bench()
    _, two = bench.join(instance="a"), bench.join(instance="b")
    bench.advance(6_000)
    assert bench.group.state is GroupState.COMPLETING_REBALANCE
    sync = bench.sync(bench.joined(two).member_id, instance="b")
    bench.join(instance="b")
    assert bench.group.state is GroupState.PREPARING_REBALANCE
    assert bench.synced(sync).error is ErrorCode.FENCED_INSTANCE_ID


def test_restart_while_members_gather_answers_the_old_process_that_it_is_fenced() -> None:
    bench = Bench()
    first = bench.join(instance="a")
    second = bench.join(instance="a")
    assert bench.joined(first).error is ErrorCode.FENCED_INSTANCE_ID
    bench.advance(6_000)
    assert bench.joined(second).generation == 1
    assert len(bench.joined(second).members) == 1


def test_unknown_instance_with_a_member_id_starts_over() -> None:
    bench = Bench()
    leader, _ = bench.stable(*TWO)
    assert bench.joined(bench.join(leader, "stranger")).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat(leader, 1, "stranger") is ErrorCode.UNKNOWN_MEMBER_ID


def test_static_member_keeps_its_place_while_it_is_away() -> None:
    bench = Bench()
    leader = bench.joined(_settled(bench, bench.join(instance="a", session=1_000_000))).member_id
    bench.sync(leader, instance="a")
    dynamic = bench.join(session=1_000_000, rebalance=30_000)
    bench.advance(60_000)
    joined = bench.joined(dynamic)
    # The rebalance went on without it, another one leads, but it is still assigned to.
    assert joined.leader == joined.member_id
    assert [instance for _, instance, _ in joined.members] == ["a", None]
    assert leader in bench.group.roster.by_id


def test_group_of_absent_static_members_keeps_waiting_for_them() -> None:
    bench = Bench()
    member = bench.joined(_settled(bench, bench.join(instance="a", session=1_000_000))).member_id
    bench.sync(member, instance="a")
    other = bench.join(session=1_000_000, rebalance=10_000)
    bench.leave(Leaving(list(bench.group.roster.by_id)[1], None))
    assert bench.joined(other).error is ErrorCode.UNKNOWN_MEMBER_ID
    bench.advance(200_000)
    assert bench.group.state is GroupState.PREPARING_REBALANCE
    assert bench.joined(bench.join(member, "a", session=1_000_000)).generation == 2


def test_leave_by_instance_id_alone() -> None:
    bench = Bench()
    _, follower = bench.stable(*TWO)
    assert bench.leave(Leaving("", "b"), Leaving("", "x")) == [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID]
    assert follower not in bench.group.roster.by_id
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_static_member_may_restart_in_a_full_group() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, members_max=2))
    bench.stable(*TWO)
    assert bench.joined(bench.join(instance="b")).error is ErrorCode.NONE


@pytest.mark.parametrize("outcome", [ErrorCode.NONE, ErrorCode.COORDINATOR_NOT_AVAILABLE])
def test_write_of_a_member_id_that_was_replaced_again_no_longer_matters(outcome: ErrorCode) -> None:
    bench = Bench()
    bench.stable(*TWO)
    bench.auto_save = False
    first = bench.join(instance="b")
    second = bench.join(instance="b")
    assert bench.joined(first).error is ErrorCode.FENCED_INSTANCE_ID
    bench.settle(outcome)
    assert second in bench.parked
    bench.settle()
    assert bench.joined(second).error is ErrorCode.NONE


def test_write_of_a_member_id_whose_member_left_holds_nobody_up() -> None:
    bench = Bench()
    leader, _ = bench.stable(*TWO)
    bench.auto_save = False
    bench.join(instance="b")
    rejoin = bench.join(leader, "a")
    bench.leave(Leaving("", "b"))
    assert bench.joined(rejoin).generation == 2


def _settled(bench: Bench, token: int) -> int:
    bench.advance(3_000)
    return token
