"""How the members of a group get from one generation to the next, and how that gets into the log.

`Rebalance` owns the state of one group: it gathers members until all are there or their time is over, begins a
generation, waits for the leader's assignment, writes it to the log, and hands it out. What members ask for, and what
they are refused, is `classic`'s, which builds on this. Only this file moves the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from penstock.groups.commands import GroupGeneration, GroupMemberReplaced
from penstock.groups.members import Member, Roster
from penstock.groups.protocols import select_protocol
from penstock.groups.requests import Append, Effect, Joined, Reply, Sync, Synced
from penstock.groups.settings import GroupSettings
from penstock.groups.states import GroupState, check_transition
from penstock.model.errors import ErrorCode


class _Replacement(NamedTuple):
    """A static member's new id on its way into the log."""

    member_id: str
    skip_assignment: bool
    previous_leader: str | None


class Rebalance:
    """The life of one group. The transitions between these states are the table in `states`:

    Empty                 no members (positions may be committed by simple consumers)
    PreparingRebalance    JoinGroups are parked until all members are there or the rebalance timeout is over
    CompletingRebalance   a generation has begun; SyncGroups are parked until the leader's assignment is in the log
    Stable                everybody has, or can fetch, an assignment
    Dead                  deleted or moved away; every request is refused
    """

    def __init__(self, name: str, settings: GroupSettings) -> None:
        self.name = name
        self.settings = settings
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.roster = Roster()
        self._effects: list[Effect] = []
        self._tickets = 0
        # PreparingRebalance: when the wait for members ends. `_initial` is the first wait of an empty group, which is
        # prolonged while new members keep coming, for `_initial_left_ms` at most.
        self._join_end_ms = 0
        self._initial = False
        self._initial_left_ms = 0
        self._newcomer = False
        # CompletingRebalance and Stable: members of this generation that have not asked for their assignment yet.
        self._pending_sync: set[str] = set()
        self._sync_end_ms = 0
        # What is on its way into the log.
        self._saving: int | None = None
        self._saving_empty: int | None = None
        self._save_again_ms: int | None = None
        self._replacing: dict[int, _Replacement] = {}

    def appended(self, ticket: int, error: ErrorCode, now_ms: int) -> list[Effect]:
        """An `Append` is committed and applied (NONE), or failed. Outcomes that came too late to matter are ignored."""
        if ticket == self._saving:
            self._saving = None
            self._assignments_saved(error, now_ms)
        elif ticket == self._saving_empty:
            self._saving_empty = None
            if error is not ErrorCode.NONE and self.state is GroupState.EMPTY:
                self._save_again_ms = now_ms + self.settings.save_retry_ms
        elif ticket in self._replacing:
            self._replacement_saved(self._replacing.pop(ticket), error, now_ms)
        return self._take()

    def tick(self, now_ms: int) -> list[Effect]:
        """Acts on every deadline that has come."""
        if self._save_again_ms is not None and self._save_again_ms <= now_ms:
            self._save_again_ms = None
            self._save_empty()
        for member_id in [name for name, end in self.roster.pending.items() if end <= now_ms]:
            del self.roster.pending[member_id]
        for member in list(self.roster.by_id.values()):
            expires_ms = member.expires_ms
            # An earlier removal may have ended a rebalance, and this member with it.
            if expires_ms is not None and expires_ms <= now_ms and member.member_id in self.roster.by_id:
                self._remove(member, now_ms)
        if self._pending_sync and self._sync_end_ms <= now_ms:
            # A removal starts a rebalance, which empties the set, but all of these have had their time.
            for late in [self.roster.by_id[member_id] for member_id in sorted(self._pending_sync)]:
                if late.member_id in self.roster.by_id:
                    self._remove(late, now_ms)
        self._try_complete_join(now_ms)
        return self._take()

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do, None when only a request or an append's outcome can change anything."""
        ends = [end for member in self.roster.by_id.values() if (end := member.expires_ms) is not None]
        ends.extend(self.roster.pending.values())
        if self._save_again_ms is not None:
            ends.append(self._save_again_ms)
        if self._pending_sync:
            ends.append(self._sync_end_ms)
        if self.state is GroupState.PREPARING_REBALANCE and not self._replacing:
            ends.append(self._join_end_ms)
        return min(ends, default=None)

    @property
    def idle(self) -> bool:
        """Whether the live group holds nothing that the log does not."""
        return (
            self.state is GroupState.EMPTY
            and not self.roster.pending
            and self._saving_empty is None
            and self._save_again_ms is None
        )

    def evict_all(self, now_ms: int) -> list[Effect]:
        """Removes every member; they find out by UNKNOWN_MEMBER_ID and join anew (a forced reset of positions)."""
        self.roster.pending.clear()
        if self.state not in (GroupState.EMPTY, GroupState.DEAD):
            for member in list(self.roster.by_id.values()):
                self._drop(member, now_ms)
            self._prepare_rebalance(now_ms)
            self._complete_join(now_ms)
        return self._take()

    def kill(self, error: ErrorCode) -> list[Effect]:
        """The group was deleted or this broker no longer coordinates it: everything parked is answered `error`."""
        for member in self.roster.by_id.values():
            if member.join_token is not None:
                self._reply_join_error(member.join_token, member.member_id, error)
                member.join_token = None
            if member.sync_token is not None:
                self._effects.append(Reply(member.sync_token, Synced(error)))
                member.sync_token = None
        self.roster = Roster()
        self._pending_sync.clear()
        self._replacing.clear()
        self._saving = self._saving_empty = self._save_again_ms = None
        self._move(GroupState.DEAD)
        return self._take()

    # --- the wait for members ---------------------------------------------------------------------------

    def _rebalance(self, now_ms: int) -> None:
        """Starts a rebalance unless one is gathering members already, and ends it when all of them are there."""
        if self.state is not GroupState.PREPARING_REBALANCE:
            self._prepare_rebalance(now_ms)
        self._try_complete_join(now_ms)

    def _prepare_rebalance(self, now_ms: int) -> None:
        if self.state is GroupState.PREPARING_REBALANCE:
            return
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now_ms)
        self._pending_sync.clear()
        self._save_again_ms = None
        timeout_ms = self.roster.rebalance_timeout_ms
        self._initial = self.state is GroupState.EMPTY
        self._newcomer = False
        if self._initial:
            delay_ms = self.settings.initial_rebalance_delay_ms
            self._initial_left_ms = max(timeout_ms - delay_ms, 0)
            timeout_ms = delay_ms
        self._join_end_ms = now_ms + timeout_ms
        self._move(GroupState.PREPARING_REBALANCE)

    def _try_complete_join(self, now_ms: int) -> None:
        if self.state is not GroupState.PREPARING_REBALANCE or self._replacing:
            return
        if now_ms >= self._join_end_ms:
            if self._initial and self._newcomer and self._initial_left_ms > 0:
                delay_ms = min(max(self.settings.initial_rebalance_delay_ms, 1), self._initial_left_ms)
                self._initial_left_ms -= delay_ms
                self._newcomer = False
                self._join_end_ms = now_ms + delay_ms
            else:
                self._complete_join(now_ms)
        elif not self._initial and not self.roster.pending and self.roster.all_joined:
            self._complete_join(now_ms)

    def _complete_join(self, now_ms: int) -> None:
        """Begins the next generation with those who are there. Static members keep their place while they are away,
        until their session ends; dynamic ones do not."""
        self._initial = False
        for member in list(self.roster.by_id.values()):
            if member.join_token is None and member.instance_id is None:
                self.roster.remove(member)
        if not self.roster.by_id:
            self._begin_empty()
            return
        if not self.roster.elect_joined_leader():
            self._join_end_ms = now_ms + max(self.roster.rebalance_timeout_ms, 1)
            return
        self.generation += 1
        self.protocol = select_protocol(self.roster.by_id.values())
        self._move(GroupState.COMPLETING_REBALANCE)
        self._sync_end_ms = now_ms + max(self.roster.rebalance_timeout_ms, 1)
        for member in self.roster.by_id.values():
            if member.join_token is not None:
                self._effects.append(Reply(member.join_token, self._joined(member)))
                member.join_token = None
                member.is_new = False
                member.heard(now_ms)
                self._pending_sync.add(member.member_id)

    def _begin_empty(self) -> None:
        self.generation += 1
        self.protocol = None
        self._move(GroupState.EMPTY)
        self._save_empty()

    # --- what goes through the log ----------------------------------------------------------------------

    def _save_empty(self) -> None:
        self._tickets += 1
        self._saving_empty = self._tickets
        record = GroupGeneration(self.name, 0, self.generation, self.protocol_type, "", "")
        self._effects.append(Append(self._tickets, record))

    def _save_assignments(self, request: Sync, now_ms: int) -> None:
        assignments = request.assignments
        size = sum(len(assignments.get(member_id, b"")) for member_id in self.roster.by_id)
        if size > self.settings.group_bytes_max:
            self._assignments_saved(ErrorCode.MESSAGE_TOO_LARGE, now_ms)
            return
        for member in self.roster.by_id.values():
            member.assignment = assignments.get(member.member_id, b"")
        self._tickets += 1
        self._saving = self._tickets
        record = GroupGeneration(
            self.name,
            time_ms=0,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol or "",
            leader=self.roster.leader or "",
            members=tuple(member.record() for member in self.roster.by_id.values()),
        )
        self._effects.append(Append(self._tickets, record))

    def _assignments_saved(self, error: ErrorCode, now_ms: int) -> None:
        if error is not ErrorCode.NONE:
            self._fail_syncs(error, now_ms)
            self._rebalance(now_ms)
            return
        self._move(GroupState.STABLE)
        for member in self.roster.by_id.values():
            if member.sync_token is not None:
                self._effects.append(Reply(member.sync_token, self._synced(member)))
                member.sync_token = None
                member.heard(now_ms)

    def _save_replacement(self, member: Member, skip_assignment: bool, previous_leader: str | None) -> None:
        self._tickets += 1
        self._replacing[self._tickets] = _Replacement(member.member_id, skip_assignment, previous_leader)
        record = GroupMemberReplaced(self.name, time_ms=0, member=member.record())
        self._effects.append(Append(self._tickets, record))

    def _replacement_saved(self, replacement: _Replacement, error: ErrorCode, now_ms: int) -> None:
        member = self.roster.by_id.get(replacement.member_id)
        if member is None or member.join_token is None:
            return
        if error is not ErrorCode.NONE:
            # The client never learns this id; it will ask again and be given another.
            self._reply_join_error(member.join_token, "", error)
            member.join_token = None
            member.heard(now_ms)
        elif self.state is GroupState.STABLE:
            self._effects.append(Reply(member.join_token, self._rejoined(member, replacement)))
            member.join_token = None
            member.heard(now_ms)
        self._try_complete_join(now_ms)

    def _rejoined(self, member: Member, replacement: _Replacement) -> Joined:
        """The answer to a static member that came back to a stable group. Its assignment stands, so a leader must not
        assign anew: it is told to skip that (KIP-814), or, if it cannot, it is not told that it leads."""
        leads = self.roster.leader == member.member_id
        if leads and not replacement.skip_assignment:
            return self._joined(member, leader=replacement.previous_leader, members=())
        return self._joined(member, skip_assignment=leads)

    # --- members that go --------------------------------------------------------------------------------

    def _remove(self, member: Member, now_ms: int) -> None:
        self._drop(member, now_ms)
        self._rebalance(now_ms)

    def _drop(self, member: Member, now_ms: int) -> None:
        """Takes a member out; if it is alive after all, UNKNOWN_MEMBER_ID makes it join anew."""
        if member.join_token is not None:
            self._reply_join_error(member.join_token, "", ErrorCode.UNKNOWN_MEMBER_ID)
            member.join_token = None
        self._release_sync(member, ErrorCode.UNKNOWN_MEMBER_ID, now_ms)
        self._pending_sync.discard(member.member_id)
        for ticket in [t for t, held in self._replacing.items() if held.member_id == member.member_id]:
            del self._replacing[ticket]
        self.roster.remove(member)

    def _fail_syncs(self, error: ErrorCode, now_ms: int) -> None:
        """No assignment of this generation will be given out."""
        self._saving = None
        for member in self.roster.by_id.values():
            member.assignment = b""
            self._release_sync(member, error, now_ms)

    def _release_sync(self, member: Member, error: ErrorCode, now_ms: int) -> None:
        if member.sync_token is not None:
            self._effects.append(Reply(member.sync_token, Synced(error)))
            member.sync_token = None
            member.heard(now_ms)

    # --- small parts ------------------------------------------------------------------------------------

    def _joined(
        self,
        member: Member,
        *,
        leader: str | None = None,
        members: Sequence[tuple[str, str | None, bytes]] | None = None,
        skip_assignment: bool = False,
    ) -> Joined:
        if members is None:
            members = self._subscriptions() if member.member_id == self.roster.leader else ()
        return Joined(
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=leader or self.roster.leader or "",
            members=tuple(members),
            skip_assignment=skip_assignment,
        )

    def _subscriptions(self) -> list[tuple[str, str | None, bytes]]:
        return [(m.member_id, m.instance_id, m.metadata(self.protocol)) for m in self.roster.by_id.values()]

    def _synced(self, member: Member) -> Synced:
        return Synced(protocol_type=self.protocol_type, protocol=self.protocol, assignment=member.assignment)

    def _reply_join_error(self, token: int, member_id: str, error: ErrorCode) -> None:
        self._effects.append(Reply(token, Joined(error, member_id)))

    def _move(self, state: GroupState) -> None:
        check_transition(self.name, self.state, state)
        self.state = state

    def _take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
