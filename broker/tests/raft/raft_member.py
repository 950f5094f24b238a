"""The smallest driver of one core that can follow etcd's transcripts: entries in a dictionary, a disk in another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.raft.configuration import Change, ChangeKind
from penstock.raft.core import RaftCore
from penstock.raft.messages import (
    Snapshot,
)
from penstock.raft.ready import Generation, HardState, Ready
from raft_words import Entry

FIRST_GENERATION = Generation(0)
KINDS = {
    "v": ChangeKind.VOTER,
    "l": ChangeKind.LEARNER,
    "r": ChangeKind.REMOVE,
    "u": ChangeKind.UPDATE,
}


def read_changes(text: str) -> list[Change]:
    """`v1 l2 r3`: make 1 a voter and 2 a learner, remove 3."""
    return [Change(KINDS[token[0]], int(token[1:])) for token in text.split()]


@dataclass
class Envelope:
    """A message on its way, to a peer or inside one member. `deliver` gives it to whom it is for."""

    sender: int
    to: int
    kind: str
    text: str
    deliver: Callable[[], None]
    local: bool = False


@dataclass
class StorageOrder:
    """What a storage thread is to do, and what it may send afterwards."""

    text: str
    work: Callable[[], None]
    responses: list[Envelope]


@dataclass
class Member:
    """The driver of one core."""

    number: int
    storage_thread: bool
    core: RaftCore = field(init=False)
    log: dict[int, Entry] = field(default_factory=dict)
    disk: dict[int, Entry] = field(default_factory=dict)
    disk_first: int = 1
    disk_last: int = 0
    history: list[Snapshot] = field(default_factory=list)
    # Entries that this member appended as leader since its last Ready.
    appended: list[Entry] = field(default_factory=list)
    soft_state: tuple[str, int] = ("StateFollower", 0)
    generation: Generation = FIRST_GENERATION
    hard_state: HardState = field(default_factory=HardState)
    append_work: list[StorageOrder] = field(default_factory=list)
    apply_work: list[StorageOrder] = field(default_factory=list)

    def fit(self, first: int, last: int, bytes_max: int) -> tuple[int, int]:
        """No limits: everything fits."""
        return last - first + 1, 0

    def snapshot(self) -> Snapshot:
        """The newest."""
        return self.history[-1]

    @property
    def has_ready(self) -> bool:
        """Whether there is something to do; what etcd counts as such, but our core leaves to the driver, included."""
        return self.core.has_ready or bool(self.appended)

    def ready(self) -> Ready | None:
        """The core's next Ready; an empty one where there are only entries that the driver wrote as leader."""
        ready = self.core.ready()
        if ready is None and self.appended:
            return Ready(last_index=self.core.last_index, generation=self.generation)
        if ready is not None:
            self.generation = ready.generation
        return ready

    def is_binding(self, hard_state: HardState) -> bool:
        """Whether epoch or vote are new. Ours asks for more: that a committed membership change is remembered."""
        return (hard_state.epoch, hard_state.vote) != (self.hard_state.epoch, self.hard_state.vote)

    def put(self, entry: Entry) -> None:
        """A leader's own entry."""
        self.log[entry.index] = entry
        self.appended.append(entry)

    def take(self, ready: Ready) -> list[Entry]:
        """Brings the log to where the Ready says it is; gives the entries that are to be stored."""
        entries = []
        if ready.begin_epoch:
            entries.append(Entry(ready.begin_epoch.index, ready.begin_epoch.epoch))
        entries += self.appended
        self.appended = []
        for piece in ready.appends:
            payload = piece.span.payload
            assert isinstance(payload, tuple)
            entries += payload[piece.first - piece.span.first : piece.last - piece.span.first + 1]
        for entry in entries:
            self.log[entry.index] = entry
        for index in [index for index in self.log if index > ready.last_index]:
            del self.log[index]
        return entries

    def store(self, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        """Writes to the disk."""
        if snapshot:
            self.disk = {}
            self.disk_first, self.disk_last = snapshot.index + 1, snapshot.index
        for entry in entries:
            self.disk[entry.index] = entry
            self.disk_last = entry.index

    def apply(self, entries: Sequence[Entry]) -> None:
        """Applies to the state, which is a text that entries are added to, and keeps a snapshot of every step."""
        for entry in entries:
            last = self.history[-1]
            configuration = self.core.apply_change(entry.change) if entry.change else last.configuration
            text = f"{last.payload}{'' if entry.change else entry.text}"
            self.history.append(Snapshot(entry.index, entry.epoch, configuration, text))
