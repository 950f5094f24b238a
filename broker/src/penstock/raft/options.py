"""What a member of a Raft group is told once, at its start."""

from __future__ import annotations

import msgspec

MIB = 1024 * 1024


class RaftOptions(msgspec.Struct, frozen=True):
    """Times are in ticks, whose length is the driver's choice; sizes are bytes of entries as the driver measures them.

    `election_ticks`: a follower that hears nothing for this long, plus a random part of up to as much again, campaigns;
    a leader that hears from no majority for this long steps down (`check_quorum`).
    `append_bytes_max`: a larger message only carries a single larger entry.
    `inflight_appends_max`, `inflight_bytes_max`: what may be on its way to one follower without an answer; the message
    that crosses the byte limit is still sent.
    `catch_up_bytes_max`: the same for a follower that lacks more than what is on its way to it, so that what one that is
    far behind makes others wait for is little.
    `begin_epoch_bytes`: size of the entry with which a leader begins its epoch.
    `reads_max`: reads that may wait for their confirmation.
    `step_down_on_removal`: a leader that is removed or made a learner steps down when it applies that.
    `count_when_appended`: a membership change takes effect on each member as soon as its log holds it (thesis, section 4.1),
    so that whoever can be elected knows the members by its log alone. Off, it does when it is applied, as etcd's
    transcripts want it; then a member whose leader is lost right after it committed a change may not know whom to ask.
    `apply_before_stored`: committed entries may be handed out before the own log holds them. Only right where a Ready
    is written before its entries are applied, as in a synchronous loop.
    `combine`: messages to followers are made with the Ready, one where several would say no more than the last, and none
    that would only tell what is committed (`RaftCore.tell_commit`). Off, each event makes its own at once, as etcd's
    transcripts want it; a driver would have to complete them at once too.
    """

    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    step_down_on_removal: bool = True
    append_bytes_max: int = 1 * MIB
    inflight_appends_max: int = 256
    inflight_bytes_max: int = 16 * MIB
    catch_up_bytes_max: int = 2 * MIB
    begin_epoch_bytes: int = 0
    reads_max: int = 4096
    count_when_appended: bool = True
    apply_before_stored: bool = False
    combine: bool = True

    def __post_init__(self) -> None:
        if self.heartbeat_ticks < 1:
            raise ValueError("heartbeat_ticks must be at least 1")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError("election_ticks must be larger than heartbeat_ticks")
        if self.inflight_appends_max < 1 or self.append_bytes_max < 1:
            raise ValueError("inflight_appends_max and append_bytes_max must be at least 1")
        if self.inflight_bytes_max < self.append_bytes_max:
            raise ValueError("inflight_bytes_max must be at least append_bytes_max")
