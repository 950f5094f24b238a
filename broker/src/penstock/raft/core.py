"""One member of a Raft group: the door to this package.

    while True:
        feed it: `step`, `tick`, `append`, `stored`, `applied`, ...
        while (ready := core.ready()) is not None: do what it says

Nothing here blocks, and nothing is done twice: what a `Ready` handed out counts as under way. Calls that a peer's
data can make wrong raise `MessageError`; wishes of our own side that cannot be granted now give a `Refusal`; a driver
that breaks its side of the contract meets an assertion.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.raft import election, follower, leader, mastership, sending, validation
from penstock.raft.configuration import Change, Configuration
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import (
    NOBODY,
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PeerMessage,
    Refusal,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.modes import RAFT
from penstock.raft.options import RaftOptions
from penstock.raft.ready import Generation, HardState, Leadership, Ready, Role
from penstock.raft.state import CommitSets, LogPort, Mode, State
from penstock.raft.status import Status, status_of

ANSWERS = (AppendResponse, HeartbeatResponse, VoteResponse)
FROM_LEADER = (Append, Heartbeat, InstallSnapshot)


class RaftCore:
    """State, and the calls that change it. `jitter(n)` gives a number from 0 to n-1, any time, for election timeouts."""

    __slots__ = ("_hard_state", "_leadership", "_recount", "_state")

    def __init__(
        self,
        member: int,
        options: RaftOptions,
        *,
        log: EpochLog,
        hard_state: HardState,
        configuration: Configuration,
        applied: int,
        port: LogPort,
        jitter: Callable[[int], int],
        mode: Mode = RAFT,
    ) -> None:
        """A follower, as it was recovered: all of `log` is durable, `configuration` is as of its end (without
        `count_when_appended` as of `applied`).

        A new group begins with a snapshot: its first members start with `applied` 1 and a log behind it, so that a
        member added later, which starts empty and without a configuration, is sent a snapshot with the members in it.
        The core keeps `log` as its own.
        """
        self._state = State(
            member,
            options,
            log=log,
            hard_state=hard_state,
            configuration=configuration,
            applied=applied,
            port=port,
            jitter=jitter,
            mode=mode,
        )
        # What the driver knows already.
        self._hard_state = self._hard_state_now()
        self._leadership = self._leadership_now()
        self._recount = 0

    # --- what is -------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """The own role."""
        return self._state.role

    @property
    def leader(self) -> int:
        """Who leads the group as far as is known, or 0."""
        return self._state.leader

    @property
    def epoch(self) -> int:
        """The newest epoch known."""
        return self._state.epoch

    @property
    def last_index(self) -> int:
        """Where the log ends."""
        return self._state.log.last

    @property
    def committed_index(self) -> int:
        """Up to here entries are committed."""
        return self._state.committed

    @property
    def knows_commit(self) -> bool:
        """Leader: whether all that earlier leaders committed is known to be: an entry of the own epoch is. What a restart
        forgot of the commit index is in doubt until then."""
        leading = self._state.leading
        return leading is not None and self._state.committed >= leading.first_index

    @property
    def configuration(self) -> Configuration:
        """The members, as of the log's end."""
        return self._state.configuration

    @property
    def mode(self) -> Mode:
        """Who commits and who elects."""
        return self._state.mode

    @property
    def transferee(self) -> int:
        """Leader: who leadership is being handed to, or 0."""
        return self._state.leading.transferee if self._state.leading is not None else NOBODY

    def status(self) -> Status:
        """Everything, for people. Not for every turn."""
        return status_of(self._state)

    # --- what happens --------------------------------------------------------------------------------

    def step(self, message: PeerMessage) -> None:
        """Takes a message of a peer.

        Raises `MessageError` for one that cannot be, or contradicts what is known; of such a message at most the
        epoch was taken.
        """
        state = self._state
        validation.check(state, message)
        if state.forked is not None:
            return  # It waits for its end.
        if isinstance(message, ANSWERS) and message.sender not in state.configuration:
            return  # It was removed, and may not know yet; nothing it says counts any more, its epoch neither.
        if message.epoch == state.epoch or self._meet_epoch(message):
            self._dispatch(message)

    def _meet_epoch(self, message: PeerMessage) -> bool:
        """A message of another epoch than the own. Gives whether it is to be looked at further."""
        state = self._state
        if message.epoch > state.epoch:
            if isinstance(message, VoteRequest):
                if election.is_held_off(state, message):
                    return False
                if message.pre:
                    return True  # It asks about an epoch that nobody is in yet.
            if isinstance(message, VoteResponse) and message.pre and not message.rejected:
                return True  # The epoch is the one that was asked about.
            leader_now = message.sender if isinstance(message, FROM_LEADER) else NOBODY
            state.become_follower(message.epoch, leader_now)
            return True
        if isinstance(message, VoteRequest) and message.pre:
            # Left without an answer, members that all have newer epochs and older logs could block each other.
            election.respond(state, message, granted=False)
        elif isinstance(message, Append | Heartbeat) and (
            state.options.check_quorum or state.options.pre_vote or not state.mode.elects
        ):
            # A leader of an old epoch that nobody's vote request will depose: this answer's epoch does.
            state.messages_after.append(AppendResponse(message.sender, state.member, state.epoch, 0))
        return False

    def _dispatch(self, message: PeerMessage) -> None:
        state = self._state
        match message:
            case AppendResponse():
                leader.handle_append_response(state, message)
            case Append():
                follower.follow(state, message.sender)
                follower.handle_append(state, message)
            case HeartbeatResponse():
                leader.handle_heartbeat_response(state, message)
            case Heartbeat():
                follower.follow(state, message.sender)
                follower.handle_heartbeat(state, message)
            case VoteRequest():
                election.handle_request(state, message)
            case VoteResponse():
                election.handle_response(state, message)
            case InstallSnapshot():
                follower.follow(state, message.sender)
                follower.handle_snapshot(state, message)
            case TimeoutNow():
                follower.handle_timeout_now(state, message)

    def tick(self) -> None:
        """A tick of time has passed."""
        state = self._state
        if state.leading is None:
            election.tick(state)
        else:
            leader.tick(state, state.leading)

    # --- wishes --------------------------------------------------------------------------------------

    def append(self, count: int, size_bytes: int) -> tuple[int, int] | Refusal:
        """Leader: `count` entries go to the log's end; the driver puts them there before it takes the next Ready.

        Gives their first and last index. Refused where not leading, removed, or handing over.
        """
        return leader.append(self._state, count, size_bytes)

    def append_refusal(self) -> Refusal | None:
        """Why `append` would be refused now, or None: to ask before anything is decided."""
        return leader.append_refusal(self._state)

    def propose_change(self, change: Change, size_bytes: int) -> int | Refusal:
        """Leader: a membership change goes to the log's end as one entry; the driver puts it there like others.

        Gives its index; the change counts from here on. One at a time: refused while an earlier one in the log is not
        applied. A leader that is to go hands over first.
        """
        return leader.propose_change(self._state, change, size_bytes)

    def campaign(self) -> Refusal | None:
        """Starts an election now, as if the timeout had passed."""
        return election.campaign(self._state, pre=self._state.options.pre_vote)

    def transfer_leadership(self, to: int) -> Refusal | None:
        """Leader: hands over to a voter as soon as its log is level. Until then, at most an election timeout, appends
        are refused. Whether it worked is seen by `Ready.leadership`.
        """
        return leader.transfer(self._state, to)

    def take_epoch(self, epoch: int) -> Refusal | None:
        """Where nobody is elected by votes: this member is to lead in `epoch`, and whatever is older is refused from now on.
        When `hard_state_stored` has told of it, `lead` may."""
        return mastership.take_epoch(self._state, epoch)

    def lead(self, epoch: int, sets: CommitSets) -> Refusal | None:
        """Leads in an epoch that was taken; `sets` are the in-sync sets, each with this member in it."""
        return mastership.lead(self._state, epoch, sets)

    @property
    def why_unfit_to_lead(self) -> str | None:
        """Where nobody is elected by votes: what keeps this member from leading in any epoch, as a sentence, or None."""
        return mastership.why_unfit(self._state)

    def set_commit_sets(self, sets: CommitSets) -> None:
        """Leader: these are the in-sync sets from now on: the old and the new one while a change is unresolved."""
        mastership.set_commit_sets(self._state, sets)

    def stop_leading(self) -> None:
        """Leader: leads no more. In this epoch it never will again."""
        mastership.stop_leading(self._state)

    @property
    def level_transferee(self) -> int:
        """Where nobody is elected by votes: who leadership is being handed to, once that member holds the whole log."""
        return leader.level_transferee(self._state)

    def tell_transferee(self) -> None:
        """Where nobody is elected by votes: lets that member know that the Lease is about to name it."""
        mastership.tell_transferee(self._state)

    def forget_leader(self) -> None:
        """Follower: the leader is known to be gone, so a vote for another need not wait for the lease on it to pass."""
        if self._state.role is Role.FOLLOWER:
            self._state.leader = NOBODY

    @property
    def commit_due(self) -> bool:
        """Whether followers may not know what is committed. Whatever they are sent tells them, heartbeats too; a driver
        that wants them to know it sooner calls `tell_commit`."""
        leading = self._state.leading
        return leading is not None and leading.commit_due

    def tell_commit(self) -> None:
        """Leader: with the next Ready, whoever was not told what is committed is."""
        state = self._state
        if state.leading is not None:
            sending.tell_commit(state, state.leading)

    def read_index(self, context: object) -> Refusal | None:
        """Leader: asks for an index that a linearizable read has to wait for (thesis, section 6.4).

        It comes as a `ReadState` when a majority has confirmed that this member still leads. Lost when it no longer
        does: then `Ready.leadership` says so.
        """
        return leader.read_index(self._state, context)

    # --- reports of the driver -----------------------------------------------------------------------

    def stored(self, index: int, generation: Generation) -> None:
        """The own log holds everything up to `index`, durable or written as the flush policy says.

        `generation` is that of the newest Ready taken when the entry at `index` was given to the log. A report of an
        older generation is passed over: other entries may stand there by now.
        """
        state = self._state
        if generation != state.unwritten.generation or index <= state.stored:
            return
        assert index <= state.log.last, (index, state.log.last)
        state.stored = index
        leader.own_log_stored(state)

    def hard_state_stored(self, hard_state: HardState) -> None:
        """This hard state is durable. Needed for all that had to be synced, welcome for others."""
        self._state.commit_stored = max(self._state.commit_stored, hard_state.commit)
        self._state.epoch_stored = max(self._state.epoch_stored, hard_state.epoch)
        election.own_vote_stored(self._state, hard_state)

    def snapshot_installed(self, index: int) -> None:
        """The snapshot at `index` is installed and durable, and the state machines are as of it."""
        state = self._state
        if index == state.installing:
            state.installing = 0
            state.applied = state.handed = index
            state.stored = max(state.stored, index)

    def apply_change(self, change: Change) -> Configuration:
        """A committed change entry is being applied, without `count_when_appended`. Gives the configuration from now on.
        Raises `ChangeError`."""
        state = self._state
        state.configuration = state.configuration.changed((change,))
        if state.leading is not None:
            leader.configuration_changed(state, state.leading)
        return state.configuration

    def configure(self, configuration: Configuration, recount: int) -> None:
        """Follower: these are the members by the log as the Ready with this `recount` has left it."""
        state = self._state
        assert state.leading is None
        assert state.recounted <= recount <= state.recount, (state.recounted, recount, state.recount)
        state.configuration = configuration
        state.recounted = recount

    def applied(self, index: int) -> None:
        """Everything up to `index` is applied."""
        state = self._state
        assert index <= state.handed, (index, state.handed)
        state.applied = max(state.applied, index)

    def compacted(self, first_index: int) -> None:
        """The log now starts at `first_index`, what is before it is gone. At most everything applied."""
        state = self._state
        assert first_index <= state.applied + 1, (first_index, state.applied)
        state.log.compact(first_index)

    def report_unreachable(self, member: int) -> None:
        """A message to `member` was probably lost: append cautiously until it answers."""
        leader.report_unreachable(self._state, member)

    def report_snapshot(self, member: int, *, ok: bool) -> None:
        """The snapshot sent to `member` arrived and is installed, or will not be."""
        leader.report_snapshot(self._state, member, ok=ok)

    # --- what to do ----------------------------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether `ready` may give something; False is certain. Cheap, to be asked after every call."""
        leading = self._state.leading
        return (leading is not None and (leading.due or leading.heartbeat_due)) or self._has_work()

    def _has_work(self) -> bool:
        state = self._state
        return bool(
            state.messages
            or state.messages_after
            or state.handed < state.appliable
            or state.unwritten.pieces
            or state.unwritten.snapshot is not None
            or state.begin_epoch is not None
            or state.fork_due
            or state.reads
            or self._hard_state_changed()
            or self._leadership_changed()
        )

    def ready(self) -> Ready | None:
        """What to do next, or None; what it says counts as under way from now on."""
        state = self._state
        if state.leading is not None:
            sending.flush(state, state.leading)
        if not self._has_work():
            return None
        hard_state, sync = self._next_hard_state()
        unwritten = state.unwritten
        committed = None
        appliable = state.appliable
        if state.handed < appliable:
            committed = (state.handed + 1, appliable)
            state.handed = appliable
        ready = Ready(
            leadership=self._next_leadership(),
            begin_epoch=state.begin_epoch,
            snapshot=unwritten.snapshot,
            truncate_from=unwritten.truncate_from,
            tail=state.tail,
            forked=state.forked if state.fork_due else None,
            appends=unwritten.pieces,
            hard_state=hard_state,
            sync_hard_state=sync,
            messages=state.messages,
            messages_after=state.messages_after,
            committed=committed,
            recount=self._next_recount(),
            reads=state.reads,
            last_index=state.log.last,
            generation=unwritten.generation,
        )
        unwritten.handed_out()
        state.begin_epoch = None
        state.tail = None
        state.fork_due = False
        state.messages = []
        state.messages_after = []
        state.reads = []
        return ready

    def advance(self, ready: Ready) -> None:
        """For a synchronous driver: all of `ready` is durable and applied."""
        if ready.hard_state is not None:
            self.hard_state_stored(ready.hard_state)
        if ready.snapshot is not None:
            self.snapshot_installed(ready.snapshot.index)
        self.stored(ready.last_index, ready.generation)
        if ready.committed is not None:
            self.applied(ready.committed[1])

    def _hard_state_changed(self) -> bool:
        state, known = self._state, self._hard_state
        return state.committed != known.commit or state.epoch != known.epoch or state.vote != known.vote

    def _next_hard_state(self) -> tuple[HardState | None, bool]:
        """The hard state if it is another than the driver knows, and whether it has to be durable: a new epoch or vote, or
        (without `count_when_appended`) a membership change that is committed.
        """
        if not self._hard_state_changed():
            return None, False
        state, known = self._state, self._hard_state
        self._hard_state = self._hard_state_now()
        binds = (state.epoch, state.vote) != (known.epoch, known.vote)
        if not binds and not state.options.count_when_appended:
            binds = bool(state.log.changes_between(known.commit + 1, state.committed))
        return self._hard_state, binds

    def _hard_state_now(self) -> HardState:
        state = self._state
        commit_epoch = state.log.epoch_of(state.committed)
        assert commit_epoch is not None, "the log never starts behind what is committed"
        return HardState(state.epoch, state.vote, state.committed, commit_epoch, state.led)

    def _next_recount(self) -> int | None:
        if self._recount == self._state.recount:
            return None
        self._recount = self._state.recount
        return self._recount

    def _leadership_now(self) -> Leadership:
        state = self._state
        return Leadership(state.role, state.leader, state.epoch)

    def _leadership_changed(self) -> bool:
        state, known = self._state, self._leadership
        return state.role is not known.role or state.leader != known.leader or state.epoch != known.epoch

    def _next_leadership(self) -> Leadership | None:
        if not self._leadership_changed():
            return None
        self._leadership = self._leadership_now()
        return self._leadership
