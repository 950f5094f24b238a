"""Rolling restarts as a decision: one broker at a time, followers first, and never what the shard cannot spare."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_operator.plan.roll import GiveUpLeadership, Hold, Restart, RollBroker, Step, next_step
from penstock_operator.snapshot.broker import ClusterReport, MemberReport, ShardReport
from penstock_operator.snapshot.shard import ShardView, formed_with, shard_view

OLD = "it is old"


def broker(name: str, reason: str | None = OLD, *, well: bool = True, idle: bool = False) -> RollBroker:
    return RollBroker(name=name, reason=reason, well=well, idle=idle)


def member(name: str, role: str = "Follower", *, in_sync: bool = True, lag: int = 0) -> MemberReport:
    return MemberReport(name=name, role=role, in_sync=in_sync, lag_bytes=lag)


def view(*members: MemberReport, leader: str | None = "a", from_leader: bool = True) -> ShardView:
    return ShardView(id=0, leader=leader, epoch=3, members=list(members), from_leader=from_leader)


THREE = (member("a", "Leader"), member("b"), member("c"))


def test_followers_first_then_the_leader_hands_over_and_goes_last() -> None:
    stale = {"a", "b", "c"}
    leader, steps = "a", []
    for _ in range(4):
        brokers = [broker(name, OLD if name in stale else None) for name in "abc"]
        roles = [member(name, "Leader" if name == leader else "Follower") for name in "abc"]
        step = next_step(view(*roles, leader=leader), brokers)
        steps.append(step)
        match step:
            case Restart(name=name):
                stale.remove(name)
            case GiveUpLeadership(to=heir):
                leader = heir
    assert steps == [
        Restart(name="b", why=OLD),
        Restart(name="c", why=OLD),
        GiveUpLeadership(leader="a", to="b", why="a hands over to b first: it is old"),
        Restart(name="a", why=OLD),
    ]
    assert next_step(view(*THREE, leader="b"), [broker(name, None) for name in "abc"]) is None


@pytest.mark.parametrize(
    ("seen", "brokers", "words"),
    [
        (view(*THREE[:2], member("c", in_sync=False)), {"c": {"reason": None}}, "c is not in sync"),
        (view(*THREE[:2], member("c", in_sync=False)), {"b": {"reason": None}}, "c is still catching up"),
        (view(*THREE), {"c": {"well": False, "reason": None}}, "c is away"),
        (view(leader=None, from_leader=False), {}, "shard 0 has no leader"),
        (view(*THREE, from_leader=False), {}, "a, which leads, cannot be asked who is in sync"),
        (
            view(*THREE[:2], member("c", "Learner", in_sync=False)),
            {"c": {"reason": None}},
            "a and b are a majority only together",
        ),
    ],
)
def test_what_the_shard_cannot_spare_is_held_back_with_a_sentence(
    seen: ShardView, brokers: dict[str, Any], words: str
) -> None:
    all_brokers = [broker(name, **{"reason": OLD, **brokers.get(name, {})}) for name in "abc"]
    step = next_step(seen, all_brokers)
    assert isinstance(step, Hold)
    assert step.why == f"it is old; not yet, because {words}"


def test_a_broker_that_is_away_is_named_with_its_trouble() -> None:
    away = RollBroker(name="c", reason=None, well=False, idle=False, trouble="no such image")
    step = next_step(view(*THREE), [broker("a"), broker("b"), away])
    assert step == Hold(why="it is old; not yet, because c is away (no such image)")


def test_a_leader_hands_over_to_a_broker_that_stays_where_it_is() -> None:
    leaving = RollBroker(name="b", reason=None, well=True, idle=False, leaving=True)
    step = next_step(view(*THREE), [broker("a"), leaving, broker("c", None)])
    assert isinstance(step, GiveUpLeadership)
    assert step.to == "c"


def test_a_broker_alone_is_restarted_whatever_is_known() -> None:
    assert next_step(view(leader=None), [broker("a")]) == Restart(name="a", why=OLD)


def test_the_only_member_of_a_growing_shard_is_restarted_to_learn_of_the_others() -> None:
    brokers = [broker("a"), broker("b", None, well=False), broker("c", None, well=False)]
    assert next_step(view(member("a", "Leader")), brokers) == Restart(name="a", why=OLD)


def test_who_runs_no_process_is_restarted_even_when_nobody_leads() -> None:
    # All three could not start: mending them must not wait for a leader that only they can elect.
    brokers = [broker(name, well=False, idle=True) for name in "abc"]
    assert next_step(view(leader=None), brokers) == Restart(name="a", why=OLD)


def test_a_broker_that_catches_up_is_left_to_it() -> None:
    seen = view(*THREE[:2], member("c", "Learner", in_sync=False))
    step = next_step(seen, [broker("a", None), broker("b", None), broker("c")])
    assert step == Hold(why="it is old; not yet, because c is still catching up")


def test_the_heir_is_up_to_date_and_least_behind() -> None:
    seen = view(*THREE, member("d", lag=9), member("e", lag=1))
    brokers = [broker("a"), *(broker(name, None) for name in "bcde")]
    assert next_step(seen, brokers) == GiveUpLeadership(
        leader="a", to="b", why="a hands over to b first: it is old"
    )


@st.composite
def shards(draw: st.DrawFn) -> tuple[ShardView, list[RollBroker]]:
    names = "abcde"[: draw(st.sampled_from([1, 3, 5]))]
    brokers = [
        broker(
            name,
            draw(st.sampled_from([None, OLD])),
            well=(well := draw(st.booleans())),
            idle=not well and draw(st.booleans()),
        )
        for name in names
    ]
    members = [
        member(name, draw(st.sampled_from(["Follower", "Follower", "Learner"])), in_sync=draw(st.booleans()))
        for name in names
        if draw(st.integers(0, 4))
    ]
    leader = draw(st.sampled_from([None, *(m.name for m in members)]))
    return view(*members, leader=leader, from_leader=draw(st.booleans())), brokers


@settings(max_examples=500, deadline=None)
@given(shards())
def test_no_step_ever_takes_away_a_majority(seen: tuple[ShardView, list[RollBroker]]) -> None:
    shard, brokers = seen
    step: Step | None = next_step(shard, brokers)
    by_name = {one.name: one for one in brokers}
    if step is None:
        assert all(one.reason is None for one in brokers)
    if not isinstance(step, Restart | GiveUpLeadership):
        return
    name = step.name if isinstance(step, Restart) else step.leader
    assert by_name[name].reason is not None
    if by_name[name].idle or len(brokers) == 1:
        return
    assert shard.from_leader, "only the leader knows who is in sync"
    voters = {one.name: one for one in shard.voters}
    others = voters.keys() - {name}
    if name in voters and others:
        assert all(voters[other].in_sync and by_name[other].well for other in others)
        assert 2 * len(others) > len(voters), "those who stay are a majority"
        assert isinstance(step, GiveUpLeadership) == (name == shard.leader)


def report(leader: str, epoch: int, *names: str) -> ClusterReport:
    members = [member(name) for name in names]
    return ClusterReport(
        cluster_id="c", shards=[ShardReport(id=0, uid="u", leader=leader, epoch=epoch, members=members)]
    )


def test_the_newest_leader_is_believed_and_itself_the_most() -> None:
    cut_off = report("a", 4, "a")
    assert shard_view(0, {}) == ShardView(id=0)
    assert shard_view(0, {"a": cut_off, "b": report("b", 5, "a", "b")}).leader == "b"
    # One that campaigns has a higher epoch but names nobody.
    seen = shard_view(0, {"a": cut_off, "b": report("", 9)})
    assert (seen.leader, seen.epoch, seen.from_leader) == ("a", 4, True)
    followers_only = shard_view(0, {"b": report("a", 4, "a", "b"), "c": report("a", 4, "a", "b")})
    assert (followers_only.leader, followers_only.from_leader) == ("a", False)
    both = shard_view(0, {"a": report("a", 4, "a", "b", "c"), "b": report("a", 4, "a")})
    assert [one.name for one in both.members] == ["a", "b", "c"]
    assert shard_view(1, {"a": cut_off}).leader is None


@pytest.mark.parametrize(
    ("seen", "before", "after"),
    [
        (view(leader=None), None, None),
        (view(leader=None), 3, 3),
        (view(member("a", "Leader")), None, 0),
        (view(*THREE), 0, 3),
        (view(*THREE, from_leader=False), 1, 1),
        (view(*THREE[:2], member("c", "Learner")), 1, 1),
        (view(*THREE[:2], member("c", in_sync=False)), 3, 3),
        (view(*THREE[:2], member("d")), None, 0),  # in sync, but not seen to be ready
    ],
)
def test_what_is_remembered_of_a_shard(seen: ShardView, before: int | None, after: int | None) -> None:
    assert formed_with(seen, 3, "abc", before) == after
