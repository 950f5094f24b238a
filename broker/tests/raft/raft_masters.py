"""The hostile world of `raft_cluster` for members whose master is named from outside.

An oracle stands for the Lease: it names a master, in an epoch that nobody had, only when the one before is gone or was told
to stop; it keeps the in-sync set, and changes it in two steps, between which both sets count. What it never does is to tell
anybody in time: members hear of each other late or not at all.
"""

from __future__ import annotations

from penstock.raft.configuration import Configuration
from penstock.raft.messages import Refusal, Snapshot
from penstock.raft.modes import MasterSlaveSync
from penstock.raft.ready import Ready, Role
from penstock.raft.state import Mode
from raft_cluster import BOOTSTRAP, Disk, Process, Record, World

EVERYBODY = frozenset(BOOTSTRAP.configuration.voters)


class MasterWorld(World):
    """`in_sync` is the recorded set, `pending` the one that is to follow it, `master` who was named last and not told to stop."""

    def __init__(self, seed: int, mode: Mode) -> None:
        self.epoch = 1
        self.master = 0
        self.waiting_to_lead = False
        self.in_sync = EVERYBODY
        self.pending: frozenset[int] | None = None
        self.commits: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.acknowledged_records: set[Record] = set()
        self.set_aside: set[Record] = set()
        self.dropped: set[Record] = set()
        self.forked: dict[int, int] = {}
        self._named: Process | None = None
        super().__init__(seed, mode)

    @property
    def is_sync(self) -> bool:
        return isinstance(self.mode, MasterSlaveSync)

    # --- what is watched ---------------------------------------------------------------------------

    def takes(self, process: Process, ready: Ready) -> None:
        number, core = process.number, process.core
        assert core.epoch >= self.epochs.get(number, 0), "an epoch went back"
        self.epochs[number] = core.epoch
        if ready.tail is not None and ready.truncate_from is not None:
            assert ready.tail.first == ready.truncate_from, "the tail is not what is cut"
            assert ready.tail.last == max(process.log), "some of what is cut was not told"
        for tail in (ready.tail, ready.forked):
            if tail is None:
                continue
            records = [process.log[index] for index in range(tail.first, tail.last + 1)]
            epochs = [record.epoch for record in records]
            told = [max(start for start in tail.epochs if start[1] <= record.index)[0] for record in records]
            assert told == epochs, "the epochs of a tail are others"
            self.set_aside.update(records)
        if ready.forked is not None:
            assert not self.is_sync, "what every in-sync member held was missing"
            self.forked[number] = ready.forked.first
        if ready.committed and core.role is Role.LEADER:
            self._acknowledge(process, ready.committed[1])

    def _acknowledge(self, process: Process, last: int) -> None:
        holders = self.in_sync if self.is_sync else frozenset({process.number})
        for number in holders:
            disk = self.disks[number]
            held = disk.last >= last and (
                last < disk.first or disk.records[last - disk.first] == process.log[last]
            )
            assert held, f"entry {last} was committed, and member {number} of the in-sync set lacks it"
        self.acknowledged_records.update(record for index, record in process.log.items() if index <= last)

    def drops(self, process: Process, records: list[Record]) -> None:
        # Of what is not in the log any more nothing can be set aside; who has acknowledged it knows that it was dropped.
        self.dropped.update(record for record in records if self.leaders.get(record.epoch) == process.number)

    def applies(self, record: Record) -> None:
        if self.is_sync:
            super().applies(record)

    def start(self, number: int) -> None:
        # What was not on disk is forgotten.
        self.epochs.pop(number, None)
        super().start(number)

    # --- the oracle --------------------------------------------------------------------------------

    def step(self) -> None:
        self._end_forked()
        if self.random.random() < 0.06:
            self.decide()
        super().step()

    def _end_forked(self) -> list[int]:
        """Their drivers end them. When they come back, they only know what their snapshots cover; one that covers some of what is
        lost is thrown away. A broker would be another member then; here the next epoch makes it one."""
        ended = [number for number in self.forked if number in self.processes]
        for number in ended:
            self.processes.pop(number).crash()
            if self.forked[number] <= self.disks[number].snapshot.index:
                self.disks[number] = Disk(Snapshot(0, 0, Configuration(), ()))
                self.in_sync -= {number}
                if self.master in self.processes:
                    self.processes[self.master].core.stop_leading()
                    self.processes[self.master].turn()
                self.master = 0
        self.forked.clear()
        return ended

    def decide(self) -> None:
        """The oracle does something."""
        if self.processes.get(self.master) is not self._named:
            self.master = 0  # It is gone, also if it was started anew.
        if not self.master:
            self._name()
        elif self.waiting_to_lead:
            self._lead()
        elif self.pending is not None:
            self.in_sync, self.pending = self.pending, None
            self._tell_sets()
        elif self.random.random() < 0.2:
            self.processes[self.master].core.stop_leading()
            self.processes[self.master].turn()
            self.master = 0
        else:
            self._change_set()

    def _name(self) -> None:
        entitled = sorted(number for number in self.in_sync if number in self.processes)
        if not entitled:
            return
        self.master = self.random.choice(entitled)
        process = self.processes[self.master]
        self.epoch = max(self.epoch, process.core.epoch) + 1
        self.pending = None
        assert process.core.take_epoch(self.epoch) is None
        process.turn()
        self.waiting_to_lead, self._named = True, process
        if not self.is_sync:
            self.in_sync = frozenset({self.master})

    def _lead(self) -> None:
        process = self.processes[self.master]
        refusal = process.core.lead(self.epoch, self._sets())
        if refusal is None:
            self.waiting_to_lead = False
        elif "configuration" in refusal.sentence or process.core.epoch > self.epoch:
            self.master, self.waiting_to_lead = 0, False
        process.turn()

    def _sets(self) -> tuple[frozenset[int], ...]:
        if not self.is_sync:
            return (frozenset({self.master}),)
        return (self.in_sync,) if self.pending is None else (self.in_sync, self.pending)

    def _tell_sets(self) -> None:
        process = self.processes[self.master]
        if process.core.role is Role.LEADER:
            process.core.set_commit_sets(self._sets())
            process.turn()
        else:
            self.master = 0

    def _change_set(self) -> None:
        process = self.processes[self.master]
        core = process.core
        if core.role is not Role.LEADER:
            self.master = 0
            return
        others = [item for item in core.status().followers if item.member != self.master]
        wanted = set(self.in_sync)
        for item in others:
            if core.knows_commit and item.match >= core.committed_index:
                wanted.add(item.member)
            elif self.random.random() < 0.5:
                wanted.discard(item.member)
        wanted -= {number for number in wanted if number not in core.configuration}
        if wanted != self.in_sync:
            self.pending = frozenset(wanted)
            self._tell_sets()

    def _rare(self, process: Process) -> None:
        if self.is_sync:
            super()._rare(process)
            assert isinstance(process.core.campaign(), Refusal)
        elif self.random.random() < 0.5:
            process.core.report_unreachable(self.random.choice(list(self.disks)))
            process.turn()

    # --- the end -----------------------------------------------------------------------------------

    def while_healing(self) -> None:
        for number in self._end_forked():
            self.start(number)
        master = self.processes.get(self.master)
        if master is None or master is not self._named or self.waiting_to_lead or self.pending is not None:
            self.decide()
        elif master.core.role is not Role.LEADER:
            self.master = 0
        elif self.is_sync:
            self._change_set()

    def check_losses(self) -> None:
        """Everybody agrees by now: what was acknowledged is there, or was set aside."""
        master = self.processes[self.master]
        kept = set(master.log.values())
        lost = {record for record in self.acknowledged_records - kept if record.index >= min(master.log)}
        silent = lost - self.set_aside - self.dropped
        assert not silent, f"{len(silent)} entries were lost without a word"
        if self.is_sync:
            assert not lost
