"""The proof that the simulator finds what it is for: rules broken on purpose, each noticed within a bounded number of seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from penstock.log.snapshots import Snapshot
from penstock.model.record_batch import BatchHeader
from penstock.partition.partition import Partition
from penstock.raft import election, follower, leader, modes
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import Append, AppendResponse, Span, VoteRequest
from penstock.raft.ready import HardState
from penstock.raft.state import Leading, State
from penstock.replication import announcing
from penstock.runtime.data_folder import Meta
from penstock.runtime.member import ShardMember
from penstock.runtime.replica import Replica
from penstock.runtime.shard import Shard
from penstock.session.producers import ProducerSessions
from penstock.testing.broken_rules import expect_notice
from penstock.testing.simulated_cluster.broker import SimulatedBroker
from penstock.testing.simulated_cluster.resizing import Resizing
from penstock.testing.simulated_cluster.world import run_life

Mutation = Callable[[pytest.MonkeyPatch], None]


# --- committing ------------------------------------------------------------------------------------


def commits_without_a_majority(patch: pytest.MonkeyPatch) -> None:
    """What one member holds is committed."""
    patch.setattr(modes, "agreed_index", max)


def commits_an_older_epoch_by_count(patch: pytest.MonkeyPatch) -> None:
    """A majority commits whatever it holds (the Raft paper's figure 8)."""
    right = leader.advance_commit

    def advance_commit(state: State, leading: Leading) -> bool:
        first, leading.first_index = leading.first_index, 0
        try:
            return right(state, leading)
        finally:
            leading.first_index = first

    patch.setattr(leader, "advance_commit", advance_commit)


def leader_counts_what_its_disk_lacks(patch: pytest.MonkeyPatch) -> None:
    """A leader counts itself for entries that are still being written."""
    right = leader.advance_commit

    def advance_commit(state: State, leading: Leading) -> bool:
        leading.progress[state.member].match = state.log.last
        return right(state, leading)

    def own_log_stored(state: State) -> None:
        if state.leading is not None and state.member in state.leading.progress:
            advance_commit(state, state.leading)

    patch.setattr(leader, "advance_commit", advance_commit)
    patch.setattr(leader, "own_log_stored", own_log_stored)


def applies_what_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    """Everything in the log is applied with what is committed."""
    right = Shard.advance
    patch.setattr(Shard, "advance", lambda self, index: right(self, max(index, self.log.next_index - 1)))


def acknowledges_what_is_only_stored(patch: pytest.MonkeyPatch) -> None:
    """acks=all is answered like acks=1."""
    patch.setattr(Shard, "when_committed", Shard.when_stored)


def reads_above_the_high_watermark(patch: pytest.MonkeyPatch) -> None:
    """Consumers are given what is not committed."""
    right = Partition.extents
    patch.setattr(
        Partition, "extents", lambda self, offset, size, end: right(self, offset, size, self.end_offset)
    )


# --- storing ---------------------------------------------------------------------------------------


def followers_acknowledge_before_storing(patch: pytest.MonkeyPatch) -> None:
    """An answer does not wait for the disk."""

    def respond(state: State, to: int, index: int) -> None:
        state.messages.append(AppendResponse(to, state.member, state.epoch, index))

    patch.setattr(follower, "_respond", respond)


def nothing_is_synced(patch: pytest.MonkeyPatch) -> None:
    """Syncs do nothing."""
    right = SimulatedBroker.replace_volume

    def replace_volume(self: SimulatedBroker) -> None:
        right(self)
        self.disk.sync_works = False

    patch.setattr(SimulatedBroker, "replace_volume", replace_volume)


def votes_before_they_are_stored(patch: pytest.MonkeyPatch) -> None:
    """A vote is given, and counted, while it is still being written."""

    def keep(self: Replica, state: HardState) -> None:
        self.meta = msgspec.structs.replace(self.meta, epoch=state.epoch, vote=state.vote)
        meta = self.meta
        self.shard.threads.writer.submit(lambda: self._store.save_meta(meta), lambda _, error: None)
        self.core.hard_state_stored(state)

    patch.setattr(Replica, "_keep", keep)


# --- voting ----------------------------------------------------------------------------------------


def votes_twice(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets the vote."""
    right = election.handle_request

    def handle_request(state: State, message: VoteRequest) -> None:
        if not message.pre:
            state.vote = message.sender
        right(state, message)

    patch.setattr(election, "handle_request", handle_request)


def votes_for_shorter_logs(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a candidate's log is up to date."""
    patch.setattr(EpochLog, "is_covered_by", lambda self, last_index, last_epoch: True)


def comes_back_without_its_storage_as_who_it_was(patch: pytest.MonkeyPatch) -> None:
    """A member whose volume was replaced votes and counts under its old identity."""
    right = SimulatedBroker._new_meta

    def new_meta(self: SimulatedBroker) -> Meta:
        meta = right(self)
        first = self.__dict__.setdefault("first_storage_id", meta.storage_id)
        return msgspec.structs.replace(meta, storage_id=first)

    patch.setattr(SimulatedBroker, "_new_meta", new_meta)


# --- following -------------------------------------------------------------------------------------


def appends_behind_entries_that_do_not_match(patch: pytest.MonkeyPatch) -> None:
    """A follower takes entries wherever its log reaches so far, whatever stands before them."""
    right = follower.handle_append

    def handle_append(state: State, message: Append) -> None:
        own = state.log.epoch_of(message.previous_index)
        if own is not None:
            message = msgspec.structs.replace(message, previous_epoch=own)
        right(state, message)

    patch.setattr(follower, "handle_append", handle_append)


def keeps_a_conflicting_tail(patch: pytest.MonkeyPatch) -> None:
    """Entries that another leader holds otherwise stay, and are acknowledged as if they were that leader's."""

    def first_difference(self: EpochLog, span: Span) -> int:
        first = max(self.last + 1, span.first)
        return first if first <= span.last else 0

    patch.setattr(EpochLog, "first_difference", first_difference)


# --- state -----------------------------------------------------------------------------------------


def keeps_staged_state_when_it_steps_down(patch: pytest.MonkeyPatch) -> None:
    """What was decided on entries that may be gone is decided on again."""
    patch.setattr(ProducerSessions, "drop_staged", lambda self: None)


def takes_what_is_staged_for_committed(patch: pytest.MonkeyPatch) -> None:
    """A leader's state is ahead of its log, and right again as soon as nothing is in flight: only hashes tell."""
    right = ProducerSessions.apply_batch

    def apply_batch(self: ProducerSessions, index: int, partition: int, header: BatchHeader) -> None:
        staged = self._staged.get((partition, header.producer_id))
        right(self, index, partition, header)
        if staged is not None:
            self._committed[partition, header.producer_id] = staged

    patch.setattr(ProducerSessions, "apply_batch", apply_batch)


def installs_a_snapshot_without_its_state(patch: pytest.MonkeyPatch) -> None:
    """The log goes on behind the snapshot, the state machines stay as they were."""
    right = Shard.begin_anew

    def begin_anew(self: Shard, base_index: int, covered: int, snapshots: Sequence[Snapshot]) -> None:
        right(self, base_index, covered, ())

    patch.setattr(Shard, "begin_anew", begin_anew)


def installs_a_snapshot_without_its_base(patch: pytest.MonkeyPatch) -> None:
    """The state is taken as of an entry that it is not of: covered entries are applied again."""
    right = Shard.begin_anew

    def begin_anew(self: Shard, base_index: int, covered: int, snapshots: Sequence[Snapshot]) -> None:
        right(self, base_index, base_index, snapshots)

    patch.setattr(Shard, "begin_anew", begin_anew)


def never_says_that_a_snapshot_was_sent(patch: pytest.MonkeyPatch) -> None:
    """A lost snapshot is waited for."""
    right: Callable[..., Any] = ShardMember._report_snapshot
    patch.setattr(
        ShardMember, "_report_snapshot", lambda self, member, ok: None if ok else right(self, member, ok)
    )


def uses_what_a_member_does_not_know(patch: pytest.MonkeyPatch) -> None:
    """The level rises as soon as one member knows more."""

    def level_to_raise(
        members: Iterable[int], announced: Mapping[int, int], connected: Mapping[int, int], level: int
    ) -> int | None:
        highest = max(connected.values(), default=0)
        return highest if highest > level else None

    patch.setattr(announcing, "level_to_raise", level_to_raise)


# --- members ---------------------------------------------------------------------------------------


def stops_brokers_that_still_vote(patch: pytest.MonkeyPatch) -> None:
    """Whoever is not wanted any more is stopped, member or not."""
    patch.setattr(Resizing, "_has_left", lambda self, leader: True)


MUTATIONS: Sequence[Mutation] = (
    commits_without_a_majority,
    commits_an_older_epoch_by_count,
    leader_counts_what_its_disk_lacks,
    applies_what_is_not_committed,
    acknowledges_what_is_only_stored,
    reads_above_the_high_watermark,
    followers_acknowledge_before_storing,
    nothing_is_synced,
    votes_before_they_are_stored,
    votes_twice,
    votes_for_shorter_logs,
    comes_back_without_its_storage_as_who_it_was,
    appends_behind_entries_that_do_not_match,
    keeps_a_conflicting_tail,
    keeps_staged_state_when_it_steps_down,
    takes_what_is_staged_for_committed,
    installs_a_snapshot_without_its_state,
    installs_a_snapshot_without_its_base,
    never_says_that_a_snapshot_was_sent,
    uses_what_a_member_does_not_know,
    stops_brokers_that_still_vote,
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_simulated_clusters_notice_a_broken_rule(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    expect_notice(run_life, mutation.__name__)
