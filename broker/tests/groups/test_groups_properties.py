"""A group under random members, clocks and log failures keeps its promises."""

from __future__ import annotations

import msgspec
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from groups_harness import SETTINGS, Bench
from penstock.groups.commands import GroupGeneration, GroupMemberReplaced
from penstock.groups.machine import GroupsMachine
from penstock.groups.requests import Joined, Leaving
from penstock.groups.states import GroupState
from penstock.model.errors import ErrorCode

PROTOCOLS = st.sampled_from(
    [
        (("range", b"1"),),
        (("range", b"2"), ("roundrobin", b"2")),
        (("roundrobin", b"3"), ("range", b"3")),
        (("roundrobin", b"4"),),
    ]
)
SESSIONS = st.sampled_from([6_000, 30_000, 400_000])
REBALANCES = st.sampled_from([1, 5_000, 60_000, 700_000])
OUTCOMES = st.sampled_from([ErrorCode.NONE, ErrorCode.NONE, ErrorCode.COORDINATOR_NOT_AVAILABLE])
Seat = tuple[str, str | None]


class GroupLife(RuleBasedStateMachine):
    """Clients that do anything at any time, against one group whose appends are settled late and sometimes fail."""

    seats = Bundle("seats")
    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(msgspec.structs.replace(SETTINGS, members_max=4, pending_members_max=3))
        self.bench.auto_save = False
        self.generation = 0
        self.leaders: dict[int, set[str]] = {}
        self.protocols: dict[int, set[str | None]] = {}
        self.retired: set[Seat] = set()
        self.seen: set[int] = set()
        self.written = 0

    @rule(
        target=tokens,
        instance=st.sampled_from([None, None, "i", "j"]),
        protocols=PROTOCOLS,
        session=SESSIONS,
        rebalance=REBALANCES,
        known=st.booleans(),
        skip=st.booleans(),
    )
    def join_new(
        self,
        instance: str | None,
        protocols: tuple[tuple[str, bytes], ...],
        session: int,
        rebalance: int,
        known: bool,
        skip: bool,
    ) -> tuple[int, str | None]:
        held = self.bench.group.roster.static(instance)
        before = None if held is None else held.member_id
        token = self.bench.join(
            "", instance, protocols, session=session, rebalance=rebalance, known=known, skip=skip
        )
        if instance is not None and before is not None and before not in self.bench.group.roster.by_id:
            self.retired.add((before, instance))
        return token, instance

    @rule(target=seats, answered=consumes(tokens))
    def learn(self, answered: tuple[int, str | None]) -> Seat:
        """A client reads what its join was answered (nothing yet, perhaps, or an error)."""
        token, instance = answered
        result = self.bench.replies.get(token)
        return (result.member_id if isinstance(result, Joined) else "nobody", instance)

    @rule(target=tokens, seat=seats, protocols=PROTOCOLS, session=SESSIONS, rebalance=REBALANCES)
    def join_again(
        self, seat: Seat, protocols: tuple[tuple[str, bytes], ...], session: int, rebalance: int
    ) -> tuple[int, str | None]:
        member_id, instance = seat
        if not member_id:
            return self.bench.join("", instance, protocols), instance
        token = self.bench.join(member_id, instance, protocols, session=session, rebalance=rebalance)
        if seat in self.retired:
            assert self.bench.joined(token).error in (
                ErrorCode.FENCED_INSTANCE_ID,
                ErrorCode.UNKNOWN_MEMBER_ID,
            )
        return token, instance

    @rule(seat=seats, stale=st.booleans())
    def sync(self, seat: Seat, stale: bool) -> None:
        ids = list(self.bench.group.roster.by_id)
        number = self.bench.group.generation - stale
        self.bench.sync(seat[0], number, {name: name.encode() for name in ids}, seat[1])

    @rule(seat=seats, stale=st.booleans())
    def heartbeat(self, seat: Seat, stale: bool) -> None:
        member_id, instance = seat
        deadline = self.bench.group.next_deadline_ms()
        error = self.bench.heartbeat(member_id, self.bench.group.generation - stale, instance)
        if seat in self.retired:
            assert error in (ErrorCode.FENCED_INSTANCE_ID, ErrorCode.UNKNOWN_MEMBER_ID)
        if error in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
            assert not stale
            assert member_id in self.bench.group.roster.by_id
            # The driver leaves its timer alone after a heartbeat.
            following = self.bench.group.next_deadline_ms()
            assert deadline is None or following is None or following >= deadline

    @rule(seat=seats)
    def commit(self, seat: Seat) -> None:
        error = self.bench.commit(seat[0], self.bench.group.generation, seat[1])
        if error is ErrorCode.NONE:
            assert seat[0] in self.bench.group.roster.by_id
            assert seat not in self.retired

    @rule(seat=seats)
    def leave(self, seat: Seat) -> None:
        if self.bench.leave(Leaving(*seat)) == [ErrorCode.NONE]:
            assert seat[0] not in self.bench.group.roster.by_id

    @rule()
    def leave_by_instance(self) -> None:
        self.bench.leave(Leaving("", "i"))

    @rule(ms=st.sampled_from([1, 500, 3_000, 10_000, 65_000, 310_000]))
    def pass_time(self, ms: int) -> None:
        self.bench.advance(ms)

    @precondition(lambda self: self.bench.appends)
    @rule(outcome=OUTCOMES)
    def settle(self, outcome: ErrorCode) -> None:
        self.bench.settle(outcome)
        self.written = max(self.written - 1, 0)

    @rule()
    def evict(self) -> None:
        self.bench.run(self.bench.group.evict_all(self.bench.now))
        assert self.bench.group.state is GroupState.EMPTY

    # --- what always holds ------------------------------------------------------------------------------

    @invariant()
    def generations_only_grow(self) -> None:
        assert self.bench.group.generation >= self.generation
        self.generation = self.bench.group.generation

    @invariant()
    def one_leader_and_one_protocol_per_generation(self) -> None:
        for token in self.bench.replies.keys() - self.seen:
            self.seen.add(token)
            reply = self.bench.replies[token]
            if not isinstance(reply, Joined) or reply.error is not ErrorCode.NONE:
                continue
            assert reply.generation <= self.bench.group.generation
            self.protocols.setdefault(reply.generation, set()).add(reply.protocol)
            assert len(self.protocols[reply.generation]) == 1
            if reply.members:
                assert reply.leader == reply.member_id
                instances = {member_id: instance for member_id, instance, _ in reply.members}
                # A restarted static leader leads on under another member id.
                name = instances[reply.member_id] or reply.member_id
                self.leaders.setdefault(reply.generation, set()).add(name)
                assert len(self.leaders[reply.generation]) == 1

    @invariant()
    def roster_is_consistent(self) -> None:
        group = self.bench.group
        roster = group.roster
        assert roster.leader in roster.by_id or (roster.leader is None and not roster.by_id)
        assert {m.member_id for m in roster.by_id.values()} == set(roster.by_id)
        assert roster.by_instance == {
            m.instance_id: m.member_id for m in roster.by_id.values() if m.instance_id is not None
        }
        assert roster.metadata_bytes == sum(m.metadata_bytes for m in roster.by_id.values())
        assert (not roster.by_id) == (group.state is GroupState.EMPTY) or (
            group.state is GroupState.PREPARING_REBALANCE
        )
        assert len(roster.pending) <= group.settings.pending_members_max
        waiting = [t for m in roster.by_id.values() for t in (m.join_token, m.sync_token) if t is not None]
        assert sorted(waiting) == sorted(self.bench.parked)

    @invariant()
    def only_an_empty_group_is_written_as_empty(self) -> None:
        for append in self.bench.appends[self.written :]:
            if isinstance(append.command, GroupGeneration):
                assert bool(append.command.members) == bool(self.bench.group.roster.by_id)
        self.written = len(self.bench.appends)

    @invariant()
    def members_support_the_protocol_of_their_generation(self) -> None:
        group = self.bench.group
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            for member in group.roster.by_id.values():
                assert group.protocol in [name for name, _ in member.protocols]

    @invariant()
    def whoever_waits_waits_for_something(self) -> None:
        group = self.bench.group
        deadline = group.next_deadline_ms()
        assert deadline is None or deadline > self.bench.now
        if self.bench.parked or group.state is GroupState.PREPARING_REBALANCE:
            assert deadline is not None or self.bench.appends

    def teardown(self) -> None:
        """Once the log works and nobody asks any more, everybody is answered and the group ends empty, in the log."""
        for _ in range(20):
            while self.bench.appends:
                self.bench.settle()
            self.bench.advance(1_000_000)
        assert not self.bench.parked
        assert self.bench.group.state is GroupState.EMPTY
        assert self.bench.group.idle
        assert self.bench.group.next_deadline_ms() is None


TestGroupLife = GroupLife.TestCase
TestGroupLife.settings = hypothesis_settings(max_examples=80, stateful_step_count=30, deadline=None)


class FailoverLife(RuleBasedStateMachine):
    """Static members restart while the coordinator fails over at any moment: nobody who was answered is fenced."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = GroupsMachine()
        self.index = 0
        self.bench = Bench()
        self.holders: dict[str, str] = {}
        self._collect()

    def _collect(self) -> None:
        self.bench.auto_save = False

    def _commit_all(self) -> None:
        while self.bench.appends:
            self.index += 1
            command = self.bench.appends[0].command
            assert isinstance(command, GroupGeneration | GroupMemberReplaced)
            self.machine.apply(self.index, command)
            self.bench.settle()

    @rule(instance=st.sampled_from(["a", "b", "c"]), committed=st.booleans())
    def restart_member(self, instance: str, committed: bool) -> None:
        token = self.bench.join(instance=instance, session=1_000_000, rebalance=5_000)
        if committed:
            self._commit_all()
        for other, member_id in list(self.holders.items()):
            # Those who are in join again when they are told to.
            if (
                other != instance
                and self.bench.heartbeat(member_id, None, other) is ErrorCode.REBALANCE_IN_PROGRESS
            ):
                self.bench.join(member_id, other, session=1_000_000, rebalance=5_000)
        for _ in range(20):
            if token in self.bench.replies:
                break
            self.bench.advance(1_000)
            self._commit_all()
        joined = self.bench.joined(token)
        assert joined.error is ErrorCode.NONE
        self.holders[instance] = joined.member_id
        leader = self.bench.group.roster.leader
        assert leader is not None
        holder = self.bench.group.roster.by_id[leader].instance_id
        self.bench.sync(leader, instance=holder)
        self._commit_all()

    @rule()
    def fail_over(self) -> None:
        record = self.machine.generation("g")
        self.bench = Bench(record=record)
        self._collect()
        for instance, member_id in self.holders.items():
            assert self.bench.group.roster.refusal(member_id, instance) is not ErrorCode.FENCED_INSTANCE_ID


TestFailoverLife = FailoverLife.TestCase
TestFailoverLife.settings = hypothesis_settings(max_examples=25, stateful_step_count=15, deadline=None)
