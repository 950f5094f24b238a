"""What must hold where a master acknowledges what it alone holds: the judge of `replication: async`.

The committed log may lose its end when another master begins, and then only: an entry of a newer epoch takes the place of the
one that was committed there, and what came behind goes with it. The judge remembers what went. Whatever a broker applies of an
older epoch at such a place is the old log, which it has to leave; nobody may be told of it any more. At the end, every
entry that went must be in a file that some broker set aside; but for those that its log had dropped already, being covered by
a checkpoint and below the beginning of their partition.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.codec.entry import KIND_BATCH, EntryHeader, parse_entry_header
from penstock.model.record_batch import NO_PRODUCER_ID, parse_header
from penstock.replication.forked_tail import ForkedTail
from penstock.runtime.forked_tails import FORKED_SUFFIX, REPORT_SUFFIX
from penstock.testing.simulated_cluster.broker import SimulatedBroker
from penstock.testing.simulated_cluster.checks import Checks, Violation, Written, _Seen
from penstock.testing.simulated_disk import SimulatedDisk


class _Learned(msgspec.Struct):
    """What an entry added to the judge's record, to be taken back."""

    partition: int = -1
    base_offset: int = 0
    producer: tuple[int, int] | None = None
    written_before: Written | None = None


class AsyncChecks(Checks):
    """See the module's text. `lost` has (index, epoch, checksum) of what went; `on_loss` is called when something does."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[tuple[int, int, int]] = set()
        self.set_aside: set[tuple[int, int, int]] = set()
        # Of tails that began before the log did, as it was by then: its first entry, and the newest epoch in it.
        self._cut_short: set[tuple[int, int]] = set()
        self.on_loss: Callable[[], None] = lambda: None
        # Asked for the (index, epoch) of every entry that went, and the epoch of what took its place: may raise.
        self.check_loss: Callable[[tuple[int, int], int], None] = lambda lost, by_epoch: None
        self._learned: list[_Learned] = []

    def _last_committed_before(self, epoch: int) -> int:
        """A new master may lack anything."""
        return 0

    def _check_majority(self, broker: SimulatedBroker, seen: _Seen, header: EntryHeader) -> None:
        holders = self._holders.get((header.log_index, header.epoch), set())
        if not holders:
            raise Violation(f"entry {header.log_index} was applied, and no disk holds it")

    def _is_of_an_old_log(self, header: EntryHeader) -> bool:
        """Epochs only rise along a log."""
        at = min(header.log_index, len(self.committed))
        return at > 0 and header.epoch < self.committed[at - 1][0]

    def _differs(self, broker: SimulatedBroker, seen: _Seen, header: EntryHeader) -> bool:
        """Whether the entry takes its place in the committed log; it is of another epoch than the one that stands there."""
        committed, _ = self.committed[header.log_index - 1]
        if header.epoch == committed:
            raise Violation(f"two entries {header.log_index} of epoch {committed}")
        while len(self.committed) >= header.log_index:
            self.check_loss((len(self.committed), self.committed[-1][0]), header.epoch)
            self._unlearn()
        self.on_loss()
        return True

    def _unlearn(self) -> None:
        epoch, checksum = self.committed.pop()
        self.lost.add((len(self.committed) + 1, epoch, checksum))
        self._applied_in.pop()
        learned = self._learned.pop()
        if learned.partition >= 0:
            del self.values[learned.partition][learned.base_offset :]
        if learned.producer is not None:
            if learned.written_before is None:
                del self._written[learned.producer]
            else:
                self._written[learned.producer] = learned.written_before

    def _note_learned(self, header: EntryHeader, payload: memoryview) -> None:
        learned = _Learned()
        if header.kind == KIND_BATCH:
            batch = parse_header(payload)
            learned.partition, learned.base_offset = header.partition, batch.base_offset
            if batch.producer_id != NO_PRODUCER_ID:
                learned.producer = (header.partition, batch.producer_id)
                learned.written_before = self._written.get(learned.producer)
        self._learned.append(learned)

    def collect(self, disk: SimulatedDisk) -> None:
        """Reads what a broker set aside."""
        for name in disk.names():
            if name.endswith(REPORT_SUFFIX):
                file = disk.open(name)
                tail = msgspec.json.decode(file.read_at(0, file.size()), type=ForkedTail)
                if not tail.exact:
                    self._cut_short.add((tail.first_index, max(tail.epochs)))
            elif name.endswith(FORKED_SUFFIX):
                file = disk.open(name)
                data, position = memoryview(file.read_at(0, file.size())), 0
                while position < len(data):
                    header = parse_entry_header(data, position)
                    self.set_aside.add((header.log_index, header.epoch, header.crc))
                    position += header.size_bytes

    def check_losses(self) -> None:
        """At the end. Raises Violation."""
        silent = {
            lost
            for lost in self.lost - self.set_aside
            if not any(lost[0] < first and lost[1] <= epoch for first, epoch in self._cut_short)
        }
        if silent:
            raise Violation(f"{len(silent)} committed entries are lost without a word, such as {min(silent)}")
