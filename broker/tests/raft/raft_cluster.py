"""A group of cores in a hostile world from one seed: late, lost, repeated and reordered messages, partitions, disks
that answer late and lose what they had not written, crashes, compaction, membership changes.

Checked all the time: one leader for each epoch, the same entry applied at an index by everyone for ever, commit indexes
that never go back, reads that see everything acknowledged before them; and at the end, in a world made whole again,
that everybody converges. A small cousin of the broker's simulator, for the core alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

import msgspec

from penstock.raft.configuration import Change, ChangeKind, Configuration
from penstock.raft.core import RaftCore
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import Append, PeerMessage, Refusal, Snapshot
from penstock.raft.modes import RAFT
from penstock.raft.options import RaftOptions
from penstock.raft.ready import Generation, HardState, Ready, Role
from penstock.raft.state import Mode

BOOTSTRAP = Snapshot(1, 1, Configuration((1, 2, 3)), ())
ENTRY_BYTES = 10


@dataclass(frozen=True)
class Record:
    """An entry: the core never sees more of it than its index and epoch."""

    index: int
    epoch: int
    value: int = 0
    change: Change | None = None


@dataclass
class Disk:
    """What a crash leaves. The log starts behind the snapshot or earlier."""

    snapshot: Snapshot
    hard_state: HardState = field(default_factory=HardState)
    first: int = 1
    epoch_before: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.records) - 1

    def put(self, record: Record) -> None:
        assert record.index == self.last + 1, (record, self.last)
        self.records.append(record)

    def truncate(self, index: int) -> None:
        del self.records[index - self.first :]

    def install(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.first, self.epoch_before, self.records = snapshot.index + 1, snapshot.epoch, []

    def shape(self) -> EpochLog:
        runs: list[tuple[int, int]] = []
        for record in self.records:
            if not runs or runs[-1][0] != record.epoch:
                runs.append((record.epoch, record.index))
        changes = [record.index for record in self.records if record.change]
        return EpochLog(self.first, self.last, runs, epoch_before=self.epoch_before, changes=changes)


@dataclass
class Job:
    """Writes in order, and what may be said when they are done."""

    generation: Generation
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    truncate_from: int | None = None
    records: list[Record] = field(default_factory=list)
    messages: list[PeerMessage] = field(default_factory=list)

    def write(self, disk: Disk, steps: int = 2**30) -> None:
        """Does the first `steps` of its writes."""
        todo: list[tuple[str, object]] = []
        if self.hard_state:
            todo.append(("hard_state", self.hard_state))
        if self.snapshot:
            todo.append(("snapshot", self.snapshot))
        if self.truncate_from is not None:
            todo.append(("truncate", self.truncate_from))
        todo += [("put", record) for record in self.records]
        for kind, value in todo[:steps]:
            match value:
                case HardState():
                    disk.hard_state = value
                case Snapshot():
                    disk.install(value)
                case Record():
                    disk.put(value)
                case int():
                    assert kind == "truncate"
                    disk.truncate(value)


class Process:
    """One member while it runs: core, log in memory, writes under way."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.disk = world.disks[number]
        self.state: tuple[int, ...] = self.disk.snapshot.payload  # type: ignore[assignment]
        self.applied = self.disk.snapshot.index
        self.log = {record.index: record for record in self.disk.records}
        self.jobs: deque[Job] = deque()
        self.generation = Generation(0)
        self.commit_seen = 0
        self.base = self.disk.snapshot
        # As of what is applied.
        self.configuration = self.base.configuration
        at_start = self._in_log() if world.options.count_when_appended else self.base.configuration
        self.core = RaftCore(
            number,
            world.options,
            log=self.disk.shape(),
            hard_state=self.disk.hard_state,
            configuration=at_start,
            applied=self.applied,
            port=self,
            jitter=world.random.randrange,
            mode=world.mode,
        )

    # --- what the core asks ------------------------------------------------------------------------

    def fit(self, first: int, last: int, bytes_max: int) -> tuple[int, int]:
        known = all(index in self.log for index in range(first, last + 1))
        assert known or not self.world.options.combine, "asked for what the log lacks"
        count = max(1, min(last - first + 1, bytes_max // ENTRY_BYTES))
        return count, count * ENTRY_BYTES

    def snapshot(self) -> Snapshot | None:
        return self.disk.snapshot if self.world.random.random() < 0.8 else None

    def _in_log(self) -> Configuration:
        """The members by the log's end."""
        changes = [
            record.change for record in self.log.values() if record.change and record.index > self.base.index
        ]
        configuration = self.base.configuration
        for change in changes:
            configuration = configuration.changed((change,))
        return configuration

    # --- the driver --------------------------------------------------------------------------------

    def turn(self) -> None:
        """Does what the core says."""
        assert self.core.committed_index >= self.commit_seen, "the commit index went back"
        self.commit_seen = self.core.committed_index
        while (ready := self.core.ready()) is not None:
            self._take(ready)

    def _take(self, ready: Ready) -> None:
        self.world.takes(self, ready)
        self.generation = ready.generation
        if ready.leadership and ready.leadership.role is Role.LEADER:
            self.world.leads(self.number, ready.leadership.epoch)
        # A commit index alone is not worth a write to every disk.
        keep = ready.hard_state if ready.sync_hard_state or self.world.random.random() < 0.3 else None
        job = Job(ready.generation, keep, ready.snapshot, ready.truncate_from)
        if ready.begin_epoch:
            job.records.append(Record(ready.begin_epoch.index, ready.begin_epoch.epoch))
        if ready.snapshot:
            self.log, self.base = {}, ready.snapshot
        for piece in ready.appends:
            payload = piece.span.payload
            assert isinstance(payload, tuple)
            job.records += payload[piece.first - piece.span.first : piece.last - piece.span.first + 1]
        if ready.truncate_from is not None:
            self.log = {index: record for index, record in self.log.items() if index < ready.truncate_from}
        self.log.update((record.index, record) for record in job.records)
        if ready.recount is not None and self.world.options.count_when_appended:
            self.core.configure(self._in_log(), ready.recount)
        for message in ready.messages:
            self._send(message)
        job.messages = [self._with_payload(message) for message in ready.messages_after]
        self.jobs.append(job)
        if ready.committed:
            self._apply(*ready.committed)
        for read in ready.reads:
            assert isinstance(read.context, int)
            assert read.index >= read.context, "a read would miss what was acknowledged before it"
            self.world.reads_served += 1

    def _apply(self, first: int, last: int) -> None:
        for index in range(first, last + 1):
            record = self.log[index]
            self.world.applies(record)
            self.state = (*self.state, record.value)
            if record.change:
                if not self.world.options.count_when_appended:
                    self.core.apply_change(record.change)
                self.configuration = self.configuration.changed((record.change,))
        self.applied = last
        self.core.applied(last)

    def _send(self, message: PeerMessage) -> None:
        self.world.send(self._with_payload(message))

    def _with_payload(self, message: PeerMessage) -> PeerMessage:
        if not isinstance(message, Append) or message.span is None:
            return message
        payload = tuple(self.log[index] for index in range(message.span.first, message.span.last + 1))
        assert message.span.size_bytes == len(payload) * ENTRY_BYTES
        return msgspec.structs.replace(message, span=msgspec.structs.replace(message.span, payload=payload))

    def store(self) -> None:
        """The disk is done with the oldest job."""
        if not self.jobs:
            return
        job = self.jobs.popleft()
        job.write(self.disk)
        if job.snapshot:
            self.state = job.snapshot.payload  # type: ignore[assignment]
            self.applied = job.snapshot.index
            self.configuration = job.snapshot.configuration
            self.core.snapshot_installed(job.snapshot.index)
        if job.hard_state:
            self.core.hard_state_stored(job.hard_state)
        if job.records:
            self.core.stored(job.records[-1].index, job.generation)
        for message in job.messages:
            self._send(message)
        self.turn()

    def crash(self) -> None:
        """Some of what was under way reached the disk, the last of it perhaps in part, unreported."""
        random = self.world.random
        for _ in range(random.randint(0, len(self.jobs))):
            self.jobs.popleft().write(self.disk)
        if self.jobs:
            self.jobs[0].write(self.disk, random.randint(0, 3))

    # --- wishes ------------------------------------------------------------------------------------

    def append(self, count: int) -> None:
        """A leader's clients write."""
        appended = self.core.append(count, count * ENTRY_BYTES)
        if not isinstance(appended, Refusal):
            self._put(
                [
                    Record(index, self.core.epoch, self.world.value())
                    for index in range(appended[0], appended[1] + 1)
                ]
            )

    def change(self, change: Change) -> None:
        """A membership change is wished for."""
        index = self.core.propose_change(change, ENTRY_BYTES)
        if isinstance(index, int):
            self._put([Record(index, self.core.epoch, change=change)])

    def _put(self, records: list[Record]) -> None:
        self.log.update((record.index, record) for record in records)
        self.jobs.append(Job(self.generation, records=records))
        self.turn()

    def report_lost_snapshots(self) -> None:
        """A driver knows which of its transfers came to nothing: here, all that are not over yet."""
        for follower in self.core.status().followers:
            if follower.pending_snapshot:
                self.core.report_snapshot(follower.member, ok=False)

    def compact(self) -> None:
        """Takes a snapshot and drops some of the log behind it."""
        if self.applied <= self.disk.snapshot.index or any(job.snapshot for job in self.jobs):
            return
        epoch = self.log[self.applied].epoch
        self.disk.snapshot = self.base = Snapshot(self.applied, epoch, self.configuration, self.state)
        first = self.world.random.randint(self.disk.first, self.applied + 1)
        if first > self.disk.first:
            kept = first - self.disk.first
            self.disk.epoch_before = self.disk.records[kept - 1].epoch
            self.world.drops(self, self.disk.records[:kept])
            del self.disk.records[:kept]
            self.disk.first = first
            self.core.compacted(first)


class World:
    """Members 1 to 5, of which 1 to 3 are voters at first."""

    def __init__(self, seed: int, mode: Mode = RAFT) -> None:
        self.mode = mode
        self.random = random = Random(seed)
        self.options = RaftOptions(
            election_ticks=random.choice([5, 10]),
            pre_vote=random.random() < 0.7,
            check_quorum=random.random() < 0.7,
            step_down_on_removal=True,
            append_bytes_max=random.choice([ENTRY_BYTES, 3 * ENTRY_BYTES, 1000]),
            inflight_appends_max=random.choice([1, 2, 100]),
            inflight_bytes_max=random.choice([1000, 10_000]),
            begin_epoch_bytes=ENTRY_BYTES,
            combine=random.random() < 0.8,
            count_when_appended=random.random() < 0.7,
        )
        self.disks = {number: Disk(Snapshot(0, 0, Configuration(), ())) for number in range(1, 6)}
        for number in BOOTSTRAP.configuration.voters:
            self.disks[number].install(BOOTSTRAP)
        self.processes: dict[int, Process] = {}
        self.messages: list[PeerMessage] = []
        self.blocked: set[tuple[int, int]] = set()
        self.loss = random.choice([0.0, 0.02, 0.2])
        self.history: dict[int, Record] = {}
        self.leaders: dict[int, int] = {}
        self.reads_served = 0
        self._values = 0
        for number in self.disks:
            self.start(number)

    # --- what is watched ---------------------------------------------------------------------------

    def value(self) -> int:
        self._values += 1
        return self._values

    def leads(self, number: int, epoch: int) -> None:
        # Nor may the same member lead an epoch twice, before and after a restart.
        assert epoch not in self.leaders, (
            f"epoch {epoch} was led by {self.leaders[epoch]}, and now by {number}"
        )
        self.leaders[epoch] = number

    def drops(self, process: Process, records: list[Record]) -> None:
        """A process drops these from its log, which its snapshot covers."""

    def takes(self, process: Process, ready: Ready) -> None:
        """A process is about to do what a Ready says."""

    def applies(self, record: Record) -> None:
        assert self.history.setdefault(record.index, record) == record, (
            "two entries were applied at one index"
        )

    @property
    def acknowledged(self) -> int:
        """The last index whose client may have been told that it is safe."""
        return max((p.core.committed_index for p in self.processes.values()), default=0)

    # --- what happens ------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        self.processes[number] = Process(number, self)
        self.processes[number].turn()

    def send(self, message: PeerMessage) -> None:
        if self.random.random() >= self.loss:
            self.messages += [message] * (2 if self.random.random() < self.loss / 2 else 1)

    def deliver(self) -> None:
        if not self.messages:
            return
        # Mostly in order, sometimes not.
        at = 0 if self.random.random() < 0.8 else self.random.randrange(len(self.messages))
        message = self.messages.pop(at)
        process = self.processes.get(message.to)
        if process and (message.sender, message.to) not in self.blocked:
            process.core.step(message)
            process.turn()

    def step(self) -> None:
        """One random event."""
        random = self.random
        event = random.random()
        if event < 0.45:
            self.deliver()
            return
        if not self.processes or (len(self.processes) < len(self.disks) and event < 0.47):
            self.start(random.choice([number for number in self.disks if number not in self.processes]))
            return
        process = random.choice(list(self.processes.values()))
        if event < 0.65:
            process.store()
        elif event < 0.80:
            process.core.tick()
            process.turn()
        elif event < 0.92:
            process.append(random.randint(1, 5))
        elif event < 0.97:
            self._rare(process)
        elif event < 0.98:
            self._cut()
        elif event < 0.984:
            process.crash()
            del self.processes[process.number]
        else:
            process.compact()

    def _rare(self, process: Process) -> None:
        random = self.random
        other = random.choice(list(self.disks))
        match random.randrange(7):
            case 0:
                process.change(Change(random.choice([ChangeKind.VOTER, ChangeKind.LEARNER]), other))
            case 1:
                process.change(Change(ChangeKind.REMOVE, other))
            case 2:
                process.core.transfer_leadership(other)
            case 3:
                process.core.report_unreachable(other)
            case 4:
                process.core.report_snapshot(other, ok=random.random() < 0.5)
            case 5:
                process.core.read_index(self.acknowledged)
            case 6:
                process.core.campaign()
        process.turn()

    def _cut(self) -> None:
        self.blocked = set()
        if self.random.random() < 0.5:
            side = {number for number in self.disks if self.random.random() < 0.4}
            one_way = self.random.random() < 0.3
            for a in side:
                for b in set(self.disks) - side:
                    self.blocked.add((a, b))
                    if not one_way:
                        self.blocked.add((b, a))

    # --- the end -----------------------------------------------------------------------------------

    def heal(self, rounds_max: int = 3000) -> None:
        """The world becomes kind: everybody runs, everything arrives. Ends when the group agrees again."""
        self.blocked, self.loss = set(), 0.0
        for number in self.disks:
            if number not in self.processes:
                self.start(number)
        target = epoch = 0
        for round_number in range(rounds_max):
            for process in list(self.processes.values()):
                if round_number % 5 == 0:
                    process.core.tick()
                    process.turn()
                if round_number % 50 == 0:
                    process.report_lost_snapshots()
                while process.jobs:
                    process.store()
            self.while_healing()
            waiting, self.messages = self.messages, []
            for message in waiting:
                process = self.processes[message.to]
                process.core.step(message)
                process.turn()
            leader = max(self.processes.values(), key=lambda p: (p.core.role is Role.LEADER, p.core.epoch))
            if leader.core.role is not Role.LEADER:
                continue
            if epoch != leader.core.epoch:
                epoch = leader.core.epoch
                leader.append(1)
                target = leader.core.last_index
            members = [self.processes[number] for number in leader.core.configuration.members]
            if leader in members and all(
                p.applied >= target and p.applied == leader.applied for p in members
            ):
                assert all(p.state == leader.state for p in members), "states differ"
                return
        raise AssertionError("the group did not come together again")

    def while_healing(self) -> None:
        """Once in each round."""
