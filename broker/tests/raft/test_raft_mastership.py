"""Leading where nobody is elected by votes, and who commits then: in-sync sets, or the master alone."""

from __future__ import annotations

import pytest

from penstock.raft.configuration import Change, ChangeKind
from penstock.raft.core import RaftCore
from penstock.raft.messages import (
    NOBODY,
    Append,
    AppendResponse,
    Heartbeat,
    MessageError,
    PeerMessage,
    Refusal,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.modes import RAFT, MasterSlaveAsync, MasterSlaveSync, mode_named
from penstock.raft.options import RaftOptions
from penstock.raft.ready import Generation, HardState, Role
from penstock.raft.state import Mode
from raft_cores import append, make_core, of_kind, sent, settle, turn

SYNC, ASYNC = MasterSlaveSync(), MasterSlaveAsync()
BOTH = pytest.mark.parametrize("mode", [SYNC, ASYNC], ids=["sync", "async"])
OPTIONS = RaftOptions(begin_epoch_bytes=10)


def member(number: int, mode: Mode = SYNC, **arguments: object) -> RaftCore:
    """A core of a shard of three whose master is named from outside."""
    return make_core(number, mode=mode, options=OPTIONS, **arguments)  # type: ignore[arg-type]


def promote(core: RaftCore, epoch: int = 1, *sets: tuple[int, ...]) -> RaftCore:
    """Has it lead; without sets, those who hold its log are itself alone."""
    assert core.take_epoch(epoch) is None
    turn(core)
    assert core.lead(epoch, sets or ((core.status().member,),)) is None
    return core


def append_and_store(core: RaftCore) -> int:
    """One entry, which the own log holds."""
    last = append(core)
    turn(core)
    core.stored(last, Generation(0))
    return last


# --- who leads -------------------------------------------------------------------------------------


@BOTH
def test_nobody_ever_campaigns(mode: Mode) -> None:
    core = member(1, mode)
    for _ in range(100):
        core.tick()
    assert isinstance(core.campaign(), Refusal)
    assert sent(turn(core)) == []
    assert (core.role, core.epoch) == (Role.FOLLOWER, 0)


@BOTH
@pytest.mark.parametrize(
    "message",
    [
        VoteRequest(1, 2, 5, 100, 4),
        VoteRequest(1, 2, 5, 100, 4, pre=True),
        VoteRequest(1, 2, 5, 100, 4, transfer=True),
        VoteResponse(1, 2, 5),
    ],
    ids=["vote", "pre-vote", "transfer", "answer"],
)
def test_what_belongs_to_an_election_is_refused_and_its_epoch_not_taken(
    mode: Mode, message: PeerMessage
) -> None:
    core = member(1, mode)
    with pytest.raises(MessageError):
        core.step(message)
    assert core.epoch == 0
    assert turn(core) == []


def test_an_epoch_is_led_in_only_when_it_is_durable() -> None:
    core = member(1)
    assert core.take_epoch(3) is None
    ready = core.ready()
    assert ready is not None
    assert ready.hard_state is not None
    assert ready.sync_hard_state
    assert ready.hard_state.epoch == 3
    refusal = core.lead(3, ((1,),))
    assert isinstance(refusal, Refusal)
    assert "not on disk" in refusal.sentence
    core.hard_state_stored(ready.hard_state)
    assert core.lead(3, ((1,),)) is None
    (began,) = [ready.begin_epoch for ready in turn(core) if ready.begin_epoch]
    assert (began.epoch, core.role, core.leader) == (3, Role.LEADER, 1)


def test_an_epoch_that_is_not_newer_is_not_taken() -> None:
    core = member(1, hard_state=HardState(7))
    for epoch in (6, 7):
        assert isinstance(core.take_epoch(epoch), Refusal)
    assert core.epoch == 7


def test_a_master_leads_in_the_epoch_it_took_and_no_other() -> None:
    core = member(1)
    assert core.take_epoch(4) is None
    turn(core)
    for epoch in (3, 5):
        assert isinstance(core.lead(epoch, ((1,),)), Refusal)
    assert core.role is Role.FOLLOWER


def test_an_epoch_is_never_led_twice_by_one_member() -> None:
    core = promote(member(1), 2)
    core.stop_leading()
    assert (core.role, core.leader, core.epoch) == (Role.FOLLOWER, NOBODY, 2)
    assert isinstance(core.lead(2, ((1,),)), Refusal)


def test_an_epoch_is_never_led_again_after_a_restart() -> None:
    """Before its first entry was on disk, too: that it led is known with its vote."""
    core = promote(member(1), 2)
    kept = [ready.hard_state for ready in turn(core) if ready.hard_state and ready.sync_hard_state]
    again = member(1, hard_state=kept[-1])
    assert isinstance(again.lead(2, ((1,),)), Refusal)
    assert again.take_epoch(3) is None


def test_who_follows_a_master_of_the_epoch_does_not_lead_in_it() -> None:
    core = member(2)
    assert core.take_epoch(4) is None
    turn(core)
    core.step(Heartbeat(2, 1, 4, 0))
    assert isinstance(core.lead(4, ((2,),)), Refusal)


def test_a_stranger_to_the_configuration_does_not_lead() -> None:
    core = member(9)
    assert core.take_epoch(1) is None
    turn(core)
    assert isinstance(core.lead(1, ((9,),)), Refusal)


@BOTH
def test_a_newer_epoch_ends_a_leadership(mode: Mode) -> None:
    core = promote(member(1, mode), 2, (1, 2))
    core.step(AppendResponse(1, 2, 5, 0))
    assert (core.role, core.epoch) == (Role.FOLLOWER, 5)
    assert isinstance(core.append(1, 10), Refusal)


@BOTH
def test_a_master_of_an_older_epoch_is_refused_and_told_so(mode: Mode) -> None:
    core = member(2, mode, hard_state=HardState(6))
    core.step(Append(2, 1, 5, 0, 0, 0))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert (answer.epoch, answer.index) == (6, 0)
    assert core.last_index == 0


def test_a_master_that_hears_nobody_goes_on_leading() -> None:
    """Its Lease ends its leadership, no quorum does."""
    core = promote(member(1), 1, (1, 2))
    for _ in range(10 * OPTIONS.election_ticks):
        core.tick()
    assert core.role is Role.LEADER


def test_reads_are_not_confirmed_by_followers() -> None:
    core = promote(member(1))
    assert isinstance(core.read_index("read"), Refusal)


def test_leadership_is_handed_over_by_whoever_holds_the_lease() -> None:
    master, other = promote(member(1), 1, (1, 2)), member(2)
    settle(master, other)
    append(master)
    assert master.transfer_leadership(2) is None
    assert master.level_transferee == NOBODY
    assert isinstance(master.append(1, 10), Refusal)
    said = settle(master, other)
    assert not of_kind(TimeoutNow, said)
    assert master.level_transferee == 2
    master.tell_transferee()
    (told,) = of_kind(TimeoutNow, settle(master, other))
    assert told.to == 2
    assert other.epoch == master.epoch, "it campaigned"
    for _ in range(OPTIONS.election_ticks):
        master.tick()
    assert master.transferee == NOBODY
    append(master)


# --- who commits -----------------------------------------------------------------------------------


def committed_with(mode: Mode, sets: tuple[tuple[int, ...], ...], *holders: int) -> bool:
    """Whether an entry is committed that the master and these hold, of a shard of five."""
    voters = (1, 2, 3, 4, 5)
    master = member(1, mode, voters=voters)
    assert master.take_epoch(1) is None
    turn(master)
    assert master.lead(1, sets) is None
    turn(master)
    last = append_and_store(master)
    for holder in holders:
        master.step(AppendResponse(1, holder, 1, last))
    return master.committed_index == last


@pytest.mark.parametrize(
    ("sets", "holders", "committed"),
    [
        (((1,),), (), True),
        (((1, 2),), (), False),
        (((1, 2),), (3, 4, 5), False),
        (((1, 2),), (2,), True),
        (((1, 2, 3),), (2,), False),
        (((1, 2, 3),), (2, 3), True),
        # The old set and the new one, while a change is unresolved.
        (((1, 2), (1, 3)), (2,), False),
        (((1, 2), (1, 3)), (3,), False),
        (((1, 2), (1, 3)), (2, 3), True),
        (((1, 2), (1,)), (), False),
        (((1,), (1, 2)), (), False),
        # One that is no member any more holds nothing.
        (((1, 9),), (2, 3, 4, 5), False),
    ],
)
def test_every_member_of_every_set_commits(
    sets: tuple[tuple[int, ...], ...], holders: tuple[int, ...], committed: bool
) -> None:
    assert committed_with(SYNC, sets, *holders) is committed
    assert committed_with(ASYNC, sets, *holders)


def test_a_master_counts_what_its_own_disk_holds() -> None:
    core = promote(member(1, ASYNC))
    ready = core.ready()
    assert ready is not None
    assert core.committed_index == 0
    core.stored(ready.last_index, ready.generation)
    assert core.committed_index == ready.last_index


def test_sets_that_change_move_the_commit_index_forward_alone() -> None:
    master, second = promote(member(1), 1, (1,)), member(2)
    settle(master, second)
    append(master, 2)
    assert append_and_store(master) == master.committed_index == 4
    master.set_commit_sets(((1, 2),))
    assert master.committed_index == 4
    last = append_and_store(master)
    assert master.committed_index == 4
    master.set_commit_sets(((1,),))
    assert master.committed_index == last


@pytest.mark.parametrize("kind", [ChangeKind.REMOVE, ChangeKind.LEARNER])
def test_a_member_leaves_the_sets_before_it_leaves_the_shard(kind: ChangeKind) -> None:
    master, *others = (member(number) for number in (1, 2, 3))
    promote(master, 1, (1, 2), (1,))
    settle(master, *others)
    assert isinstance(master.propose_change(Change(kind, 2), 10), Refusal)
    master.set_commit_sets(((1,),))
    if kind is ChangeKind.REMOVE:
        assert isinstance(master.propose_change(Change(kind, 2), 10), int)


def test_a_set_without_its_master_is_our_own_mistake() -> None:
    master = promote(member(1))
    for sets in ((), ((2, 3),), ((1, 2), (2,))):
        with pytest.raises(AssertionError):
            master.set_commit_sets(sets)


@BOTH
def test_a_new_master_commits_what_earlier_ones_left_with_its_own_first_entry(mode: Mode) -> None:
    core = member(2, mode, epochs=(1, 1, 1))
    assert core.take_epoch(5) is None
    turn(core)
    assert core.lead(5, ((2,),)) is None
    assert core.committed_index == 0
    turn(core)
    assert core.committed_index == 4


def test_modes_have_the_names_of_the_settings() -> None:
    assert mode_named("Raft", "sync") is RAFT
    assert isinstance(mode_named("MasterSlave", "sync"), MasterSlaveSync)
    assert isinstance(mode_named("MasterSlave", "async"), MasterSlaveAsync)


def test_everybody_follows_and_learns_what_is_committed() -> None:
    master, *others = (member(number) for number in (1, 2, 3))
    promote(master, 1, (1, 2))
    settle(master, *others)
    last = append(master, 5)
    settle(master, *others)
    assert [core.committed_index for core in (master, *others)] == [last] * 3


def test_a_new_master_knows_what_is_committed_with_its_first_entry() -> None:
    """What a restart forgot may have been acknowledged: whoever only holds what is known to be committed may lack it."""
    core = member(1, epochs=(1, 1, 1, 1), hard_state=HardState(1))
    assert core.take_epoch(2) is None
    turn(core)
    assert core.lead(2, ((1, 2),)) is None
    core.stored(5, Generation(0))
    assert not core.knows_commit
    core.step(AppendResponse(1, 2, 2, 4))
    assert not core.knows_commit
    core.step(AppendResponse(1, 2, 2, 5))
    assert core.knows_commit
    assert core.committed_index == 5
