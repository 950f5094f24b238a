"""What must hold at every moment of a simulated life, and what is remembered to judge it.

The judge keeps its own record: who led which epoch, who gave whom a vote, which member's disk held which entry, and the
committed log itself with the offsets, values and producers' sequences in it. It never asks a broker what it believes
where the disks can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, EntryHeader, parse_entry_header
from penstock.codec.peer import KIND_CONSENSUS, FrameReader, PeerFrame
from penstock.codec.records import read_records
from penstock.log.errors import LogDamagedError
from penstock.model.record_batch import NO_PRODUCER_ID, BatchHeader, parse_header
from penstock.raft.messages import MessageError, VoteResponse
from penstock.raft.ready import Role
from penstock.replication.wire import decode_message
from penstock.runtime.data_folder import META_NAME, Meta
from penstock.session.producers import next_sequence
from penstock.testing.simulated_cluster.broker import SimulatedBroker


class Violation(AssertionError):  # noqa: N818 (it is the outcome that a life looks for)
    """An invariant does not hold; the text says which."""


class _Seen:
    """What a broker's process showed so far."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self.loop = broker.loop
        self.epoch = 0
        self.commit = 0
        self.applied = 0
        self.stored = 0
        self.checked = 0
        self.led = 0
        # By the newest change of the members in its log before the turn.
        self.voters: tuple[int, ...] = ()
        # All that the checks of a turn look at, as of the last one.
        self.standing: tuple[object, ...] = ()


class Written(msgspec.Struct, frozen=True):
    """A producer's newest batch in a partition."""

    epoch: int
    last_sequence: int


class Checks:
    """See the module's text. Everything raises `Violation`."""

    def __init__(self) -> None:
        # The committed log: (epoch, checksum) by index - 1.
        self.committed: list[tuple[int, int]] = []
        # For each of these, the epoch of who applied it first: it was committed in that one or before.
        self._applied_in: list[int] = []
        # Values by partition key, in the order of offsets from 0 on.
        self.values: dict[int, list[bytes]] = {}
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        # Members whose disk held an entry of that (index, epoch).
        self._holders: dict[tuple[int, int], set[int]] = {}
        self._seen: dict[int, _Seen] = {}
        self._written: dict[tuple[int, int], Written] = {}
        # The members that have to hold what is committed, where no majority has to.
        self.copies: Callable[[], frozenset[int]] | None = None

    @property
    def epochs_led(self) -> int:
        """Epochs that had a leader."""
        return len(self._leaders)

    # --- after every turn ------------------------------------------------------------------------

    def observe(self, broker: SimulatedBroker) -> None:
        """A turn of this broker is over."""
        seen = self._seen.get(broker.ordinal)
        if seen is None or seen.loop is not broker.loop:
            seen = self._seen[broker.ordinal] = _Seen(broker)
        replica, shard = broker.member.replica, broker.shard
        core = replica.core
        role = core.role
        if role is not Role.LEADER and not replica.is_leader:
            self._check_nothing_staged(broker)
        standing = (
            shard.stored_index,
            shard.commit_index,
            core.committed_index,
            core.epoch,
            role,
            core.configuration,
            core,
        )
        if standing == seen.standing:
            # Most turns move nothing of this.
            return
        seen.standing = standing
        if core.epoch < seen.epoch:
            raise Violation(f"{_name(broker)} went back from epoch {seen.epoch} to {core.epoch}")
        seen.epoch = core.epoch
        level = broker.shard.machines.members.level
        if level > broker.feature_level:
            raise Violation(f"{_name(broker)} knows level {broker.feature_level}, its shard uses {level}")
        self._note_stored(broker, seen)
        if role is Role.LEADER:
            self._check_leader(broker, seen)
        self._check_committed(broker, seen)
        seen.voters = core.configuration.voters

    def ended(self, broker: SimulatedBroker) -> None:
        """Its process ended by itself within a turn, in which it may have acknowledged what it stored."""
        seen = self._seen.get(broker.ordinal)
        if seen is not None:
            self._note_stored(broker, seen)

    def _note_stored(self, broker: SimulatedBroker, seen: _Seen) -> None:
        log, member = broker.shard.log, broker.member.own_member
        stored = broker.shard.stored_index
        begin = max(min(seen.stored, stored) + 1, log.first_index)
        for index in range(begin, stored + 1):
            self._holders.setdefault((index, log.epoch_of(index)), set()).add(member)
        seen.stored = stored

    def _check_leader(self, broker: SimulatedBroker, seen: _Seen) -> None:
        core, member = broker.member.replica.core, broker.member.own_member
        log = broker.shard.log
        owner = self._leaders.setdefault(core.epoch, member)
        if owner != member:
            raise Violation(f"epoch {core.epoch} has two leaders: {owner} and {member}")
        if seen.led != core.epoch:
            seen.led = core.epoch
            last = self._last_committed_before(core.epoch)
            if last >= log.next_index or (
                last >= max(log.first_index - 1, 1) and log.epoch_of(last) != self.committed[last - 1][0]
            ):
                raise Violation(f"{_name(broker)} leads epoch {core.epoch} without committed entry {last}")
        elif core.committed_index > seen.commit and log.epoch_of(core.committed_index) != core.epoch:
            raise Violation(
                f"{_name(broker)} committed entry {core.committed_index} of an earlier epoch in epoch {core.epoch}"
            )

    def _last_committed_before(self, epoch: int) -> int:
        """What a leader of that epoch must hold. Votes may reach it late, when the next epoch has committed entries that it
        has never heard of: nobody follows it any more, and nothing it holds can be committed."""
        last = len(self.committed)
        while last and self._applied_in[last - 1] >= epoch:
            last -= 1
        return last

    def _check_nothing_staged(self, broker: SimulatedBroker) -> None:
        machines = broker.shard.machines
        staged = machines.catalog.topics.staged_count + machines.producers.staged_count
        if staged:
            raise Violation(f"{_name(broker)} does not lead and has {staged} staged values")

    # --- the committed log -----------------------------------------------------------------------

    def _check_committed(self, broker: SimulatedBroker, seen: _Seen) -> None:
        shard = broker.shard
        applied = shard.commit_index
        if applied < seen.applied:
            raise Violation(f"{_name(broker)} went back from entry {seen.applied} to {applied}")
        core = broker.member.replica.core
        if core.committed_index < seen.commit:
            raise Violation(f"{_name(broker)} went back from commit {seen.commit} to {core.committed_index}")
        seen.applied, seen.commit = applied, core.committed_index
        if applied > core.committed_index:
            raise Violation(
                f"{_name(broker)} applied entry {applied}, which is not committed: {core.committed_index}"
            )
        first = max(seen.checked + 1, shard.log.first_index)
        if applied >= first:
            seen.checked = applied
            try:
                data = b"".join(shard.log.entries(first, applied).read())
            except LogDamagedError:
                if not broker.damaged:
                    raise
                return
            self._compare(broker, seen, data)

    def _compare(self, broker: SimulatedBroker, seen: _Seen, data: bytes) -> None:
        view = memoryview(data)
        position = 0
        while position < len(view):
            header = parse_entry_header(view, position)
            end = position + header.size_bytes
            if self._is_of_an_old_log(header):
                position = end
                continue
            index, found = header.log_index, (header.epoch, header.crc)
            known = index <= len(self.committed)
            if not known and index != len(self.committed) + 1:
                raise Violation(f"{_name(broker)} applied entry {index} before {len(self.committed) + 1}")
            if not known or (self.committed[index - 1] != found and self._differs(broker, seen, header)):
                self._check_majority(broker, seen, header)
                payload = view[position + ENTRY_HEADER_SIZE : end]
                self._note_learned(header, payload)
                self.committed.append(found)
                self._applied_in.append(seen.epoch)
                if header.kind == KIND_BATCH:
                    self._learn(header, payload)
            position = end

    def _is_of_an_old_log(self, header: EntryHeader) -> bool:
        """Whether a broker may have applied the entry although it is not in the committed log."""
        return False

    def _differs(self, broker: SimulatedBroker, seen: _Seen, header: EntryHeader) -> bool:
        """Another entry than the committed one was applied. Gives whether it takes that one's place."""
        raise Violation(
            f"{_name(broker)} applied another entry {header.log_index}: {(header.epoch, header.crc)},"
            f" not {self.committed[header.log_index - 1]}"
        )

    def _note_learned(self, header: EntryHeader, payload: memoryview) -> None:
        """An entry is about to be learned."""

    def _check_majority(self, broker: SimulatedBroker, seen: _Seen, header: EntryHeader) -> None:
        """The voters of before the turn or behind it: one of its entries may have changed them."""
        holders = self._holders.get((header.log_index, header.epoch), set())
        if self.copies is not None:
            lacking = self.copies() - holders
            if lacking:
                raise Violation(
                    f"{_name(broker)} applied entry {header.log_index}, which in-sync members {sorted(lacking)} lack"
                )
            return
        now = broker.member.replica.core.configuration.voters
        for voters in (seen.voters, now):
            if voters and len(holders & set(voters)) > len(voters) // 2:
                return
        raise Violation(
            f"{_name(broker)} applied entry {header.log_index}, which only {len(holders)} members hold on disk"
        )

    def recorded(self, brokers: Sequence[SimulatedBroker]) -> None:
        """Whoever may take over from now on holds all that was ever committed."""
        assert self.copies is not None
        members, last = self.copies(), len(self.committed)
        for broker in brokers:
            if not last or not broker.up or broker.member.own_member not in members:
                continue
            self.observe(broker)
            holders = self._holders.get((last, self.committed[-1][0]), set())
            if broker.shard.log.first_index <= last and broker.member.own_member not in holders:
                raise Violation(f"{_name(broker)} is in the in-sync set and lacks entry {last}")

    def _learn(self, entry: EntryHeader, payload: memoryview) -> None:
        header = parse_header(payload)
        values = self.values.setdefault(entry.partition, [])
        if header.base_offset != len(values):
            raise Violation(
                f"entry {entry.log_index} has offset {header.base_offset}, {len(values)} comes next"
            )
        values += [record.value or b"" for record in read_records(payload)]
        if header.producer_id != NO_PRODUCER_ID:
            self._check_sequence(entry, header)

    def _check_sequence(self, entry: EntryHeader, header: BatchHeader) -> None:
        key = (entry.partition, header.producer_id)
        before = self._written.get(key)
        if before is not None and before.epoch == header.producer_epoch:
            expected = next_sequence(before.last_sequence)
            if header.base_sequence != expected:
                raise Violation(
                    f"entry {entry.log_index} has sequence {header.base_sequence} of producer {header.producer_id},"
                    f" {expected} comes next"
                )
        last = header.base_sequence + header.record_count - 1
        self._written[key] = Written(header.producer_epoch, last)

    # --- what clients were told ------------------------------------------------------------------

    def acknowledged(self, key: int, base_offset: int, values: list[bytes]) -> None:
        """A producer was told that these are written for good."""
        found = self.values.get(key, [])[base_offset : base_offset + len(values)]
        if found != values:
            raise Violation(f"partition {key} offset {base_offset} was acknowledged and is not committed")

    def read(self, key: int, offset: int, value: bytes) -> None:
        """A consumer was given this."""
        values = self.values.get(key, [])
        if offset >= len(values):
            raise Violation(f"partition {key} offset {offset} was read, {len(values)} are committed")
        if values[offset] != value:
            raise Violation(f"partition {key} offset {offset} was read as something else than was committed")

    # --- what brokers tell each other ------------------------------------------------------------

    def sent(self, broker: SimulatedBroker, data: bytes) -> None:
        """A frame leaves a broker: a vote is given once in an epoch, and is on disk when it is."""
        if b"vote_response" not in data[:200]:
            return
        for frame in FrameReader(1 << 20).feed(data):
            if frame.kind == KIND_CONSENSUS:
                self._check_vote(broker, frame)

    def _check_vote(self, broker: SimulatedBroker, frame: PeerFrame) -> None:
        try:
            message = decode_message(frame.meta, frame.data)
        except MessageError as error:
            raise Violation(f"{_name(broker)} sent what cannot be read: {error}") from error
        if not isinstance(message, VoteResponse) or message.pre or message.rejected:
            return
        if self._votes.setdefault((message.sender, message.epoch), message.to) != message.to:
            raise Violation(f"{_name(broker)} votes twice in epoch {message.epoch}")
        kept = broker.disk.durable(META_NAME)
        meta = None if kept is None else msgspec.json.decode(kept, type=Meta)
        if meta is None or (meta.epoch, meta.vote) < (message.epoch, 0):
            raise Violation(f"{_name(broker)} votes in epoch {message.epoch} and has not stored it")
        if meta.epoch == message.epoch and meta.vote != message.to:
            raise Violation(f"{_name(broker)} votes in epoch {message.epoch} and has stored another vote")


def _name(broker: SimulatedBroker) -> str:
    return f"broker {broker.ordinal}"
