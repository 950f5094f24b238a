"""One member's state, and the few steps that every role shares.

The roles' rules are functions over this value: `election`, `follower`, `leader`. Roles change like this:

    follower -> pre-candidate -> candidate -> leader        (without pre-vote: follower -> candidate)
    any -> follower                                          (a newer epoch, a lost election, a leader found)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from penstock.raft.configuration import Configuration
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import NOBODY, MessageError, PeerMessage, Snapshot, Span
from penstock.raft.options import RaftOptions
from penstock.raft.progress import Progress
from penstock.raft.reads import ReadQueue
from penstock.raft.ready import BeginEpoch, HardState, ReadState, Role, Tail
from penstock.raft.unwritten import Unwritten


class LogPort(Protocol):
    """What the core asks the driver's log: only from within `ready()`, so keep both cheap.

    Without `RaftOptions.combine` messages are made, and this is asked, within other calls too, and then also about
    entries that are just being appended.
    """

    def fit(self, first: int, last: int, bytes_max: int) -> tuple[int, int]:
        """How many entries from `first` on, at most up to `last`, have together at most `bytes_max`, and their bytes.

        At least one, even if it is larger. All of them are in the log: what was appended since the last Ready too.
        """
        ...

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot that can be sent, or None while there is none; the core asks again later."""
        ...


# In-sync sets, each with the master in it: two while a change is unresolved.
CommitSets = Sequence[Collection[int]]


class Mode(Protocol):
    """Who commits and who elects (`penstock.raft.modes`).

    `elects`: members elect their leader by votes; else somebody outside names it, and no vote is asked for or given.
    `may_fork`: what one member took for committed may be missing in the next leader's log.
    """

    elects: bool
    may_fork: bool

    def agreed(self, state: State, leading: Leading) -> int:
        """How far the log is held by enough members, as the leader knows it."""
        ...


class Leading:
    """What only a leader keeps; gone when it steps down.

    `progress` has all members of the configuration, ascending. `transferee` is who leadership is being handed to.
    `fresh_first` and `fresh_bytes` are what was appended since the last Ready, the usual next message to everyone.
    `due`, `heartbeat_due`: with the next Ready messages are to be made; see `Progress.due`.
    `commit_due`: followers may not know yet what is committed; what they are sent next tells them.
    `commit_sets`: the in-sync sets, where the mode has them.
    """

    __slots__ = (
        "commit_due",
        "commit_sets",
        "due",
        "first_index",
        "fresh_bytes",
        "fresh_first",
        "heartbeat_due",
        "heartbeat_elapsed",
        "progress",
        "reads",
        "span",
        "transferee",
    )

    def __init__(self, first_index: int) -> None:
        # The entry that began the epoch: what is at or behind it was made by this leadership.
        self.first_index = first_index
        self.progress: dict[int, Progress] = {}
        self.heartbeat_elapsed = 0
        self.transferee = NOBODY
        self.reads = ReadQueue()
        self.fresh_first = first_index
        self.fresh_bytes = 0
        # The span made last, for the next follower to share.
        self.span: Span | None = None
        self.due = False
        self.commit_due = False
        self.commit_sets: CommitSets = ()
        self.heartbeat_due = False


def _commit_known(log: EpochLog, hard_state: HardState, mode: Mode) -> int:
    """How far a recovered log is certainly committed.

    The commit index may be lost; but the configuration must not be two changes old, for a majority of that need share
    no member with a majority of now. A change is only proposed when the one before it is applied, so of the changes
    in a log all but the last are committed. Where masters commit alone, majorities mean nothing, and the changes may be such
    as the next master lacks.
    """
    is_here = log.epoch_of(hard_state.commit) == hard_state.commit_epoch
    by_changes = len(log.changes) > 1 and not mode.may_fork
    return max(hard_state.commit if is_here else 0, log.changes[-2] if by_changes else 0)


class State:
    """Fields that need words:

    `committed` >= `handed` >= `applied`: what a majority holds, what Readys have handed out to be applied, what the
    driver said is applied. `stored`: up to here the own log holds the entries of `log`, as the driver said.
    `commit_stored`: the last commit index that is known to be durable.
    `recount` counts how often what the log says of the members became another, but by the own proposals, and `recounted`
    is up to where `configuration` follows it.
    `installing`: index of a snapshot that was taken and is not in yet, else 0.
    `messages_after` wait for storage, `messages` do not; see `Ready`.
    `epoch_stored`: the newest epoch that is known to be durable. `led`: see `HardState`.
    `tail`, `forked`: see `Ready`; a member that is `forked` does nothing more, and `fork_due` until the driver knows.
    """

    __slots__ = (
        "applied",
        "begin_epoch",
        "commit_stored",
        "committed",
        "configuration",
        "election_elapsed",
        "election_timeout",
        "epoch",
        "epoch_stored",
        "fork_due",
        "forked",
        "handed",
        "installing",
        "jitter",
        "leader",
        "leading",
        "led",
        "log",
        "member",
        "messages",
        "messages_after",
        "mode",
        "options",
        "port",
        "reads",
        "recount",
        "recounted",
        "role",
        "stored",
        "tail",
        "unwritten",
        "vote",
        "votes",
    )

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
        mode: Mode,
    ) -> None:
        assert member != NOBODY, "0 is nobody"
        assert log.first - 1 <= applied <= log.last, (log.first, applied, log.last)
        assert log.last < log.first or hard_state.epoch >= log.last_epoch, "an epoch was forgotten"
        self.member = member
        self.options = options
        self.mode = mode
        self.port = port
        self.jitter = jitter
        self.log = log
        self.unwritten = Unwritten()
        self.epoch = self.epoch_stored = hard_state.epoch
        self.vote = hard_state.vote
        self.role = Role.FOLLOWER
        self.leader = NOBODY
        self.leading: Leading | None = None
        self.led = hard_state.led
        self.votes: dict[int, bool] = {}
        self.configuration = configuration
        self.committed = self.commit_stored = max(applied, _commit_known(log, hard_state, mode))
        self.handed = self.applied = applied
        self.stored = log.last
        self.installing = 0
        self.recount = self.recounted = 0
        self.election_elapsed = 0
        self.election_timeout = 0
        self.begin_epoch: BeginEpoch | None = None
        self.messages: list[PeerMessage] = []
        self.messages_after: list[PeerMessage] = []
        self.reads: list[ReadState] = []
        self.tail: Tail | None = None
        self.forked: Tail | None = None
        self.fork_due = False
        self.reset(self.epoch)

    def reset(self, epoch: int) -> None:
        """What every change of role begins with: no leader, no votes, a fresh timeout; in a new epoch no vote cast."""
        if epoch != self.epoch:
            assert epoch > self.epoch, (epoch, self.epoch)
            self.epoch = epoch
            self.vote = NOBODY
        self.leader = NOBODY
        self.leading = None
        self.votes = {}
        self.election_elapsed = 0
        # Between one and two timeouts, so that two members seldom campaign at once (thesis, section 3.4).
        self.election_timeout = self.options.election_ticks + self.jitter(self.options.election_ticks)

    def become_follower(self, epoch: int, leader: int) -> None:
        """Follows `leader`, or nobody known yet."""
        self.reset(epoch)
        self.leader = leader
        self.role = Role.FOLLOWER

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed. Never goes back."""
        if index <= self.committed:
            return
        if index > self.log.last:
            raise MessageError(
                f"the leader says that this member holds index {index}, but its log ends at {self.log.last}: "
                "has it lost entries?"
            )
        self.committed = index

    @property
    def promotable(self) -> bool:
        """Whether this member may lead: a voter whose log is whole."""
        return self.member in self.configuration.voters and not self.installing

    @property
    def appliable(self) -> int:
        """The last index that may be handed out to be applied."""
        if self.installing:
            return self.handed
        if self.options.apply_before_stored:
            return self.committed
        index = min(self.committed, self.stored)
        changes = self.log.changes
        if changes and changes[-1] > self.commit_stored and not self.options.count_when_appended:
            # Who goes by a new configuration must not forget after a restart that it holds: a voter whom the change
            # removed may be gone for good by then, or have a longer log and refuse its vote.
            waiting = self.log.changes_between(self.commit_stored + 1, index)
            if waiting:
                return max(waiting[0] - 1, self.handed)
        return index

    def has_uncounted_change(self) -> bool:
        """Whether the configuration is out of date: a membership change is in the log, or was cut off it, and is not counted
        yet."""
        if self.options.count_when_appended:
            return self.recounted != self.recount
        changes = self.log.changes
        return bool(changes) and bool(self.log.changes_between(self.applied + 1, self.committed))

    def has_pending_change(self) -> bool:
        """Whether the log holds a membership change that is not applied."""
        changes = self.log.changes
        return bool(changes) and changes[-1] > self.applied
