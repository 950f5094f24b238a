"""One member of a Raft group: the door to this package.

    while True:
        feed it: `step`, `tick`, `append`, `stored`, `applied`, ...
        while (ready := core.ready()) is not None: do what it says

Nothing here blocks, and nothing is done twice: what a `Ready` handed out counts as under way. Calls that a peer's
data can make wrong raise `MessageRefused`; wishes of our own side that cannot be granted now give a `Refusal`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from penstock.raft.configuration import Change, Configuration
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import PeerMessage, Refusal, Snapshot
from penstock.raft.options import RaftOptions
from penstock.raft.ready import Generation, HardState, Ready


class LogPort(Protocol):
    """What the core asks the driver's log. Only asked from within `ready()`, so keep both cheap."""

    def fit(self, first: int, last: int, bytes_max: int) -> tuple[int, int]:
        """How many entries from `first` on, at most up to `last`, have together at most `bytes_max`, and their bytes.

        At least one, even if it is larger. All of them are in the log: what was appended since the last Ready too.
        """
        ...

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot that can be sent, or None while there is none; the core asks again later."""
        ...


class RaftCore:
    """State, and the calls that change it. `jitter(n)` gives a number from 0 to n-1, any time, for election timeouts."""

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
    ) -> None:
        """A follower, as it was recovered: all of `log` is durable, `configuration` is as of `applied`."""
        raise AssertionError("under construction")

    # --- what happens ------------------------------------------------------------------------------

    def step(self, message: PeerMessage) -> None:
        """Takes a message of a peer. Raises `MessageRefused` for one that cannot be, having taken nothing of it."""

    def tick(self) -> None:
        """A tick of time has passed."""

    # --- wishes ------------------------------------------------------------------------------------

    def append(self, count: int, size_bytes: int) -> tuple[int, int] | Refusal:
        """Leader: `count` entries go to the log's end; the driver puts them there before it takes the next Ready.

        Gives their first and last index. Refused where not leading, removed, or handing over.
        """
        raise AssertionError("under construction")

    def append_refusal(self) -> Refusal | None:
        """Why `append` would be refused now, or None: to ask before anything is decided."""
        raise AssertionError("under construction")

    def propose_change(self, change: Change) -> int | Refusal:
        """Leader: a membership change goes to the log's end as one entry; the driver puts it there like others.

        Gives its index. One at a time: refused while an earlier one in the log is not applied. Its size counts as
        `RaftOptions.begin_epoch_bytes`.
        """
        raise AssertionError("under construction")

    def campaign(self) -> Refusal | None:
        """Starts an election now, as if the timeout had passed."""
        raise AssertionError("under construction")

    def transfer_leadership(self, to: int) -> Refusal | None:
        """Leader: hands over to a voter as soon as its log is level. Until then, at most an election timeout, appends
        are refused. Whether it worked is seen by `Ready.leadership`.
        """
        raise AssertionError("under construction")

    def forget_leader(self) -> None:
        """Follower: the leader is known to be gone, so a vote for another need not wait for the lease on it to pass."""

    def read_index(self, context: object) -> Refusal | None:
        """Leader: asks for an index that a linearizable read has to wait for (thesis, section 6.4).

        It comes as a `ReadState` when a majority has confirmed that this member still leads. Lost when it no longer
        does: then `Ready.leadership` says so.
        """
        raise AssertionError("under construction")

    # --- reports of the driver -----------------------------------------------------------------------

    def stored(self, index: int, generation: Generation) -> None:
        """The own log holds everything up to `index`, durable or written as the flush policy says."""

    def hard_state_stored(self, hard_state: HardState) -> None:
        """This hard state is durable."""

    def snapshot_installed(self, index: int) -> None:
        """The snapshot at `index` is installed and durable, and the state machines are as of it."""

    def apply_change(self, change: Change) -> Configuration:
        """A committed change entry is being applied. Gives the configuration from now on. Raises `ChangeRefused`."""
        raise AssertionError("under construction")

    def applied(self, index: int) -> None:
        """Everything up to `index` is applied."""

    def compacted(self, first_index: int) -> None:
        """The log now starts at `first_index`, what is before it is gone. At most everything applied."""

    def report_unreachable(self, member: int) -> None:
        """A message to `member` was probably lost: append cautiously until it answers."""

    def report_snapshot(self, member: int, ok: bool) -> None:
        """The snapshot sent to `member` arrived and is installed, or will not be."""

    # --- what to do --------------------------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether `ready` would give something."""
        return False

    def ready(self) -> Ready | None:
        """What to do next; what it says counts as under way from now on."""
        return None

    def advance(self, ready: Ready) -> None:
        """For a synchronous driver: all of `ready` is durable and applied, its changes with `apply_change`."""
