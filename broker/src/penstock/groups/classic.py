"""One consumer group of Kafka's classic protocol: what its members ask, and what they are told.

The clients assign partitions among themselves; the coordinator collects all members (JoinGroup), names a leader and a
generation, and hands out what the leader decided (SyncGroup). This class is that coordinator for one group, without
clock, socket or log: every method takes the time, and what should happen comes back as effects. The rules are Kafka's,
with KIP-345 (static members), KIP-394 (member ids before membership), KIP-559 (protocol names in SyncGroup) and
KIP-814 (a restarted static leader skips the assignment). Cooperative rebalancing (KIP-429) needs nothing here: members
may commit and heartbeat with their generation while the next one forms. Positions are not kept here; `machine` does.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.groups.admission import join_refusal
from penstock.groups.commands import GroupGeneration
from penstock.groups.consumer_protocol import subscribed_topics
from penstock.groups.members import Member, joining_member, member_of
from penstock.groups.protocols import select_protocol
from penstock.groups.rebalance import Rebalance
from penstock.groups.requests import Effect, Join, Leaving, Reply, Sync, Synced
from penstock.groups.settings import GroupSettings
from penstock.groups.states import GroupState
from penstock.model.errors import ErrorCode


class ClassicGroup(Rebalance):
    """A group's live state on its coordinator: the requests of its members. States, time and what goes through the log
    are in `Rebalance`.

    After every call but `heartbeat` the `next_deadline_ms` may be earlier than before; `tick` must be called once that
    time has come. Every token gets exactly one `Reply`; every `Append`'s outcome must be reported to `appended`.
    """

    @classmethod
    def restored(cls, record: GroupGeneration, settings: GroupSettings, now_ms: int) -> ClassicGroup:
        """The group as of its last completed rebalance, with fresh sessions, so that members just go on."""
        group = cls(record.group, settings)
        group.generation = record.generation
        group.protocol_type = record.protocol_type
        if record.members:
            group.protocol = record.protocol
            for member in record.members:
                group.roster.add(member_of(member, now_ms))
            group.roster.leader = (
                record.leader if record.leader in group.roster.by_id else group.roster.leader
            )
            group.state = GroupState.STABLE
        return group

    def join(self, request: Join, token: int, now_ms: int) -> list[Effect]:
        """JoinGroup: parked until the next generation begins, or answered at once."""
        error = join_refusal(request, self.roster, self.state, self.protocol_type, self.settings)
        if error is not ErrorCode.NONE:
            self._reply_join_error(token, request.member_id, error)
        elif request.member_id:
            self._join_as_known(request, token, now_ms)
        else:
            self._join_as_new(request, token, now_ms)
        return self._take()

    def sync(self, request: Sync, token: int, now_ms: int) -> list[Effect]:
        """SyncGroup: parked until the leader's assignment is in the log, or answered at once."""
        error = self._sync_refusal(request)
        if error is not ErrorCode.NONE:
            self._effects.append(Reply(token, Synced(error)))
            return self._take()
        member = self.roster.by_id[request.member_id]
        self._pending_sync.discard(member.member_id)
        member.heard(now_ms)
        if self.state is GroupState.STABLE:
            self._effects.append(Reply(token, self._synced(member)))
            return self._take()
        self._release_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, now_ms)
        member.sync_token = token
        if member.member_id == self.roster.leader and self._saving is None:
            self._save_assignments(request, now_ms)
        return self._take()

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int, now_ms: int) -> ErrorCode:
        """Keeps the session alive. Never brings a deadline forward, so that the driver's timer stays right."""
        error = self._member_refusal(member_id, instance_id, generation)
        if error is not ErrorCode.NONE:
            return error
        self.roster.by_id[member_id].heard(now_ms)
        return (
            ErrorCode.REBALANCE_IN_PROGRESS
            if self.state is GroupState.PREPARING_REBALANCE
            else ErrorCode.NONE
        )

    def leave(self, leaving: Iterable[Leaving], now_ms: int) -> tuple[list[ErrorCode], list[Effect]]:
        """LeaveGroup, for several members at once (KIP-345): an error for each, in order."""
        return [self._leave_one(one, now_ms) for one in leaving], self._take()

    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, now_ms: int
    ) -> ErrorCode:
        """Whether positions may be committed in the name of this member. Consumers that do not use membership
        (generation -1, no member id) may only commit while the group is empty."""
        if self.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if generation < 0 and self.state is GroupState.EMPTY and not member_id and instance_id is None:
            return ErrorCode.NONE
        error = self._member_refusal(member_id, instance_id, generation)
        if error is not ErrorCode.NONE:
            return error
        self.roster.by_id[member_id].heard(now_ms)
        # The assignment of this generation is not known yet, so the member cannot own what it commits.
        return (
            ErrorCode.REBALANCE_IN_PROGRESS
            if self.state is GroupState.COMPLETING_REBALANCE
            else ErrorCode.NONE
        )

    # --- joining ----------------------------------------------------------------------------------------

    def _join_as_new(self, request: Join, token: int, now_ms: int) -> None:
        held = self.roster.static(request.instance_id)
        prefix = request.client_id[: self.settings.client_id_length_max]
        if request.instance_id is not None:
            prefix = request.instance_id[: self.settings.client_id_length_max]
        member_id = f"{prefix}-{request.suffix}"
        if held is not None:
            self._replace_static(held, member_id, request, token, now_ms)
        elif request.instance_id is None and request.requires_known_member:
            if len(self.roster.pending) >= self.settings.pending_members_max:
                # These ids lapse with their session timeout, so the client should just try again.
                self._reply_join_error(token, "", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
                return
            self.roster.pending[member_id] = now_ms + request.session_timeout_ms
            self._reply_join_error(token, member_id, ErrorCode.MEMBER_ID_REQUIRED)
        else:
            self._add(member_id, request, token, now_ms)

    def _join_as_known(self, request: Join, token: int, now_ms: int) -> None:
        member_id = request.member_id
        if member_id in self.roster.pending and request.instance_id is None:
            self._add(member_id, request, token, now_ms)
            return
        error = self.roster.refusal(member_id, request.instance_id)
        if error is not ErrorCode.NONE:
            self._reply_join_error(token, member_id, error)
            return
        member = self.roster.by_id[member_id]
        unchanged = member.protocols == request.protocols
        leads = self.roster.leader == member_id
        if unchanged and (
            self.state is GroupState.COMPLETING_REBALANCE or (self.state is GroupState.STABLE and not leads)
        ):
            # Nothing to rebalance for: it may have missed the answer to its join.
            self.roster.update(member, request)
            member.heard(now_ms)
            self._effects.append(Reply(token, self._joined(member)))
            return
        # A leader that joins a stable group asks for a rebalance: it saw topics change, which nobody else tells us.
        self._park_join(member, request, token)
        self._rebalance(now_ms)

    def _add(self, member_id: str, request: Join, token: int, now_ms: int) -> None:
        if not self.roster.by_id:
            self.protocol_type = request.protocol_type
        self.roster.add(
            joining_member(member_id, request, token, now_ms, self.settings.new_member_join_timeout_ms)
        )
        if self.state is GroupState.PREPARING_REBALANCE:
            self._newcomer = True
        self._rebalance(now_ms)

    def _park_join(self, member: Member, request: Join, token: int) -> None:
        """A second JoinGroup of the same member replaces its first, whose connection is probably gone."""
        if member.join_token is not None:
            self._reply_join_error(member.join_token, member.member_id, ErrorCode.REBALANCE_IN_PROGRESS)
        self.roster.update(member, request)
        member.join_token = token

    def _replace_static(self, member: Member, member_id: str, request: Join, token: int, now_ms: int) -> None:
        """KIP-345: a restarted static member takes its old place; whoever still uses the old id is fenced.

        The new id is answered only once it is in the log (KAFKA-10284): after a failover the new coordinator would
        otherwise fence the process that was told to use it."""
        for ticket in [t for t, held in self._replacing.items() if held.member_id == member.member_id]:
            del self._replacing[ticket]
        if member.join_token is not None:
            self._reply_join_error(member.join_token, member.member_id, ErrorCode.FENCED_INSTANCE_ID)
            member.join_token = None
        self._release_sync(member, ErrorCode.FENCED_INSTANCE_ID, now_ms)
        self._pending_sync.discard(member.member_id)
        before = subscribed_topics(self.protocol_type, member.metadata(self.protocol))
        previous_leader = self.roster.leader
        self.roster.replace(member, member_id)
        self._park_join(member, request, token)
        member.is_new = False
        self._save_replacement(member, request.supports_skipping_assignment, previous_leader)
        if self.state is GroupState.STABLE:
            same_topics = before == subscribed_topics(self.protocol_type, member.metadata(self.protocol))
            if same_topics and select_protocol(self.roster.by_id.values()) == self.protocol:
                return
        self._rebalance(now_ms)

    # --- leaving and refusing ---------------------------------------------------------------------------

    def _leave_one(self, leaving: Leaving, now_ms: int) -> ErrorCode:
        if self.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        member_id = leaving.member_id
        if not member_id and leaving.instance_id is not None:
            member_id = self.roster.by_instance.get(leaving.instance_id, "")
        elif self.roster.pending.pop(member_id, None) is not None:
            self._try_complete_join(now_ms)
            return ErrorCode.NONE
        error = self.roster.refusal(member_id, leaving.instance_id)
        if error is ErrorCode.NONE:
            self._remove(self.roster.by_id[member_id], now_ms)
        return error

    def _sync_refusal(self, request: Sync) -> ErrorCode:
        error = self._member_refusal(request.member_id, request.instance_id, request.generation)
        if error is not ErrorCode.NONE:
            return error
        if self.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        if request.protocol_type not in (None, self.protocol_type) or request.protocol not in (
            None,
            self.protocol,
        ):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        return ErrorCode.NONE

    def _member_refusal(self, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        if self.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = self.roster.refusal(member_id, instance_id)
        if error is ErrorCode.NONE and generation != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return error
