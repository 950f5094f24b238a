"""What peers may send: anything. A message that cannot be is refused with a sentence, and the core goes on."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.raft.configuration import Configuration
from penstock.raft.core import RaftCore
from penstock.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    MessageError,
    PeerMessage,
    Snapshot,
    Span,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.options import RaftOptions
from raft_cores import Port, append, make_core, make_leader, turn

GROUP = Configuration((1, 2, 3))
SPAN = Span(3, 4, ((2, 3),))


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (Heartbeat(9, 2, 2, 0), "a message for member 9"),
        (Heartbeat(1, 0, 2, 0), "claims to come from member 0"),
        (Heartbeat(1, 1, 2, 0), "claims to come from member 1"),
        (Heartbeat(1, 2, 0, 0), "epochs start with 1"),
        (Heartbeat(1, 2, 2, -1), "commit index -1"),
        (Heartbeat(1, 2, 2, 99), "has it lost entries?"),
        (HeartbeatResponse(1, 2, 2, -1), "answer about read -1"),
        (Append(1, 2, 2, -1, 0, 0), "behind index -1"),
        (Append(1, 2, 2, 7, 2, 0, SPAN), "does not join index 7"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 2, ((2, 3),))), "from index 3 to 2"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 4, ())), "do not start there"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 4, ((2, 4),))), "do not start there"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 4, ((1, 3),))), "do not rise"),
        (Append(1, 2, 2, 2, 1, 0, Span(3, 4, ((2, 3), (2, 4)))), "do not rise"),
        (Append(1, 2, 2, 0, 0, 0, Span(1, 4, ((0, 1),))), "do not rise"),
        (Append(1, 2, 2, 2, 1, 0, Span(3, 4, ((1, 3), (2, 5)))), "from index 5 on"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 4, ((3, 3),))), "run of epoch 3"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 4, ((2, 3),), changes=(5,))), "changes at (5,)"),
        (Append(1, 2, 2, 2, 2, 0, Span(3, 4, ((2, 3),), changes=(4, 3))), "changes at (4, 3)"),
        (AppendResponse(1, 2, 2, -1), "answer about index -1"),
        (AppendResponse(1, 2, 2, 3, True, 4, 1), "hints at 4"),
        (VoteRequest(1, 2, 3, 9, 4), "whose log ends"),
        (VoteRequest(1, 2, 3, -1, 1), "whose log ends"),
        (InstallSnapshot(1, 2, 2, Snapshot(0, 1, GROUP)), "a snapshot at index 0"),
        (InstallSnapshot(1, 2, 2, Snapshot(5, 3, GROUP)), "epoch 3"),
        (InstallSnapshot(1, 2, 2, Snapshot(5, 1, Configuration())), "without voters"),
    ],
)
def test_a_message_that_cannot_be_is_refused(message: PeerMessage, part: str) -> None:
    core = make_core(1, epochs=[1, 2, 2])
    before = core.status()
    with pytest.raises(MessageError) as refused:
        core.step(message)
    assert part in refused.value.sentence
    after = core.status()
    assert (after.epoch, after.last_index, after.committed) == (
        before.epoch,
        before.last_index,
        before.committed,
    )


def test_a_second_leader_of_an_epoch_is_refused() -> None:
    follower = make_core(3)
    follower.step(Heartbeat(3, 1, 1, 0))
    for message in (Heartbeat(3, 2, 1, 0), Append(3, 2, 1, 0, 0, 0), TimeoutNow(3, 2, 1)):
        with pytest.raises(MessageError, match="member 2 claims to lead epoch 1, but member 1 does"):
            follower.step(message)
    leader = make_leader(make_core(2))
    with pytest.raises(MessageError, match="but member 1 does"):
        leader.step(Append(1, 3, 1, 0, 0, 0))


def test_a_leader_refuses_answers_to_what_it_never_sent() -> None:
    leader = make_leader(make_core(2))
    with pytest.raises(MessageError, match="but the log ends at 1"):
        leader.step(AppendResponse(1, 2, 1, 2))
    with pytest.raises(MessageError, match="confirms read 1, which was never asked"):
        leader.step(HeartbeatResponse(1, 2, 1, read=1))


def test_answers_of_strangers_are_passed_over() -> None:
    leader = make_leader(make_core(2))
    leader.step(AppendResponse(1, 9, 7, 1))
    assert leader.epoch == 1


def _messages() -> st.SearchStrategy[PeerMessage]:
    small = st.integers(-1, 9)
    head = (st.sampled_from([1, 1, 1, 1, 2]), st.integers(0, 4), st.integers(0, 5))
    runs = st.lists(st.tuples(small, small), max_size=3).map(tuple)
    joined = st.builds(
        lambda first, count, epoch: Span(first, first + count, ((epoch, first),)),
        st.integers(1, 8),
        st.integers(0, 3),
        st.integers(1, 5),
    )
    spans = st.one_of(st.none(), joined, joined, st.builds(Span, small, small, runs))
    joining = st.builds(
        lambda to, sender, epoch, previous_epoch, commit, span: Append(
            to, sender, epoch, span.first - 1, previous_epoch, commit, span
        ),
        *head,
        st.integers(0, 5),
        small,
        joined,
    )
    configurations = st.sampled_from(
        [GROUP, Configuration((2, 3)), Configuration((1,), (2,)), Configuration()]
    )
    return st.one_of(
        joining,
        st.builds(Append, *head, small, small, small, spans),
        st.builds(AppendResponse, *head, small, st.booleans(), small, small),
        st.builds(Heartbeat, *head, small, small),
        st.builds(HeartbeatResponse, *head, small),
        st.builds(VoteRequest, *head, small, small, st.booleans(), st.booleans()),
        st.builds(VoteResponse, *head, st.booleans(), st.booleans()),
        st.builds(InstallSnapshot, *head, st.builds(Snapshot, small, small, configurations)),
        st.builds(TimeoutNow, *head),
    )


EVENTS = st.lists(
    st.one_of(_messages(), st.sampled_from(["tick", "append", "turn", "campaign"])), max_size=30
)


@settings(max_examples=400, deadline=None)
@given(EVENTS, st.booleans(), st.booleans())
def test_no_message_makes_the_core_fail(
    events: list[PeerMessage | str], careful: bool, combine: bool
) -> None:
    options = RaftOptions(election_ticks=3, pre_vote=careful, check_quorum=careful, combine=combine)
    port = Port()
    core = make_core(1, options=options, port=port)
    commit = 0
    for event in events:
        _happens(core, port, event)
        assert core.committed_index >= commit
        commit = core.committed_index
    turn(core)


def _happens(core: RaftCore, port: Port, event: PeerMessage | str) -> None:
    match event:
        case "tick":
            core.tick()
        case "append":
            if core.append_refusal() is None:
                append(core)
        case "turn":
            turn(core)
            status = core.status()
            epoch = core._state.log.epoch_of(status.applied)
            if status.applied and epoch:
                port.newest = Snapshot(status.applied, epoch, GROUP)
        case "campaign":
            core.campaign()
        case str():
            raise AssertionError(event)
        case _:
            with suppress(MessageError):
                core.step(event)
