"""Cores for examples: made in one line, driven by a storage that is done at once, and connected without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from penstock.raft.configuration import Configuration
from penstock.raft.core import RaftCore
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import Append, PeerMessage, Refusal, Snapshot, Span
from penstock.raft.modes import RAFT
from penstock.raft.options import RaftOptions
from penstock.raft.ready import HardState, Ready
from penstock.raft.state import Mode

Kind = TypeVar("Kind")
ENTRY_BYTES = 10
VOTERS = (1, 2, 3)


class Port:
    """Every entry has the same size; one snapshot can be set."""

    def __init__(self) -> None:
        self.newest: Snapshot | None = None

    def fit(self, first: int, last: int, bytes_max: int) -> tuple[int, int]:
        count = max(1, min(last - first + 1, bytes_max // ENTRY_BYTES))
        return count, count * ENTRY_BYTES

    def snapshot(self) -> Snapshot | None:
        return self.newest


def make_core(
    member: int = 1,
    *,
    voters: Sequence[int] = VOTERS,
    learners: Sequence[int] = (),
    epochs: Sequence[int] = (),
    hard_state: HardState | None = None,
    options: RaftOptions | None = None,
    port: Port | None = None,
    jitter: Callable[[int], int] = lambda n: 0,
    mode: Mode = RAFT,
    applied: int = 0,
) -> RaftCore:
    """A follower whose log holds entries with these epochs, from index 1 on, and has applied none, or up to `applied`."""
    runs = [
        (epoch, index) for index, epoch in enumerate(epochs, 1) if index == 1 or epochs[index - 2] != epoch
    ]
    return RaftCore(
        member,
        options or RaftOptions(pre_vote=False, check_quorum=False, begin_epoch_bytes=ENTRY_BYTES),
        log=EpochLog(1, len(epochs), runs),
        hard_state=hard_state or HardState(max(epochs, default=0)),
        configuration=Configuration(tuple(voters), tuple(learners)),
        applied=applied,
        port=port or Port(),
        jitter=jitter,
        mode=mode,
    )


def turn(core: RaftCore) -> list[Ready]:
    """Takes all Readys, each stored and applied before the next."""
    taken = []
    while (ready := core.ready()) is not None:
        core.advance(ready)
        taken.append(ready)
    return taken


def sent(readys: Sequence[Ready]) -> list[PeerMessage]:
    """All messages of these Readys."""
    return [message for ready in readys for message in [*ready.messages, *ready.messages_after]]


def settle(
    *cores: RaftCore, lost: Callable[[PeerMessage], bool] = lambda message: False
) -> list[PeerMessage]:
    """Lets the cores talk until they have nothing more to say; gives what was said. Who is not named, hears nothing."""
    by_member = {core.status().member: core for core in cores}
    said = []

    def told(core: RaftCore) -> list[PeerMessage]:
        readys = turn(core)
        core.tell_commit()
        return sent([*readys, *turn(core)])

    while messages := [message for core in cores for message in told(core)]:
        for message in messages:
            said.append(message)
            if message.to in by_member and not lost(message):
                by_member[message.to].step(message)
    return said


def make_leader(*others: RaftCore, **arguments: object) -> RaftCore:
    """Member 1, elected by the others, with its first entry known to all of them as committed."""
    leader = make_core(1, **arguments)  # type: ignore[arg-type]
    assert leader.campaign() is None
    settle(leader, *others)
    return leader


def append(core: RaftCore, count: int = 1) -> int:
    """Appends as leader; gives the last index."""
    appended = core.append(count, count * ENTRY_BYTES)
    assert not isinstance(appended, Refusal), appended
    return appended[1]


def of_kind(kind: type[Kind], messages: Sequence[object]) -> list[Kind]:
    """The messages of one kind."""
    return [message for message in messages if isinstance(message, kind)]


def follower_append(
    previous: tuple[int, int], epochs: list[int], *, epoch: int, commit: int = 0, payload: object = None
) -> Append:
    """From member 1 to member 2: entries of these epochs behind `previous`, (index, epoch)."""
    first = previous[0] + 1
    runs = tuple(
        (run, index)
        for index, run in enumerate(epochs, first)
        if index == first or epochs[index - first - 1] != run
    )
    span = Span(first, previous[0] + len(epochs), runs, payload=payload) if epochs else None
    return Append(2, 1, epoch, *previous, commit, span)
