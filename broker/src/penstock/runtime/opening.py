"""From a data folder to a shard: snapshots, log, what is not known to be committed, partitions.

Nothing is applied here but the snapshots. Entries behind them are in flight until the shard's leader, which may be this
broker, says that they are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from penstock.catalog.partitions import Partitions
from penstock.catalog.topics import Catalog
from penstock.codec.entry import KIND_BATCH, EntryHeader
from penstock.log.commit_log import SPARES_READY, CommitLog
from penstock.log.disk import Disk
from penstock.log.errors import DataFolderError
from penstock.log.maintenance import disk_is_full, make_spare
from penstock.log.recovery import LogOptions, RecoveryReport, open_log
from penstock.log.reset import finish_reset
from penstock.log.segment import SPARE_SUFFIX
from penstock.log.snapshots import SnapshotStore
from penstock.model.commands import StateMachine
from penstock.partition.partition import RunCache
from penstock.partition.table import PartitionTable
from penstock.replication.forked_tail import ForkedTail
from penstock.replication.members import Members
from penstock.runtime.command_codec import CommandCodec
from penstock.runtime.data_folder import Meta
from penstock.runtime.forked_tails import load_reports
from penstock.runtime.in_flight import CommandInFlight, InFlight, batch_in_flight
from penstock.runtime.machines import Machines
from penstock.runtime.shard import Shard
from penstock.runtime.threads import Threads
from penstock.session.producers import ProducerSessions
from penstock.telemetry.counters import Counters

# A volume holds at least this many segments, so that small volumes get small ones.
SEGMENTS_PER_VOLUME_MIN = 16
_SEGMENT_STEP = 1024 * 1024


class ShardOptions(msgspec.Struct, frozen=True):
    """What opening needs of the settings; bytes throughout."""

    log: LogOptions
    index_cache_bytes_max: int
    pending_bytes_max: int
    uncommitted_bytes_max: int = 256 * 1024 * 1024


class MemberFolder(Protocol):
    """What opening needs of a data folder."""

    log_disk: Disk

    def save_meta(self, meta: Meta) -> None: ...


class OpenedShard(msgspec.Struct):
    """A shard ready to serve, and what opening it found."""

    shard: Shard
    snapshots: SnapshotStore
    report: RecoveryReport
    meta: Meta
    # What was set aside of logs that this folder held.
    forked: Sequence[ForkedTail] = ()


def open_shard(
    folder: MemberFolder,
    meta: Meta,
    options: ShardOptions,
    threads: Threads,
    counters: Counters,
    others: Sequence[StateMachine],
    on_fatal: Callable[[BaseException], None],
) -> OpenedShard:
    """Blocks while it reads. Raises LogDamagedError and DataFolderError with sentences."""
    disk = folder.log_disk
    machines = Machines(Catalog(), Partitions(), ProducerSessions(meta.shard_id), Members(), others)
    store = SnapshotStore(disk)
    snapshots = store.load()
    machines.restore(snapshots)
    recovered = _Recovered(machines)
    log_options = _fit_segments(disk.space_bytes()[0], options.log)
    finish_reset(disk, meta.shard_uid, store, log_options.segment_bytes)
    log, report = open_log(
        disk,
        meta.shard_uid,
        log_options,
        epoch=meta.epoch,
        covered_index=store.covered_index,
        on_entry=recovered.on_entry,
        seeding=store.seeding,
    )
    last = log.next_index - 1
    newest = log.epoch_of(last) if last >= log.first_index else 0
    if meta.epoch < newest:
        # The process ended before the epoch was written, though entries of it were; no vote in it was given without that.
        meta.epoch, meta.vote = newest, 0
    if meta.recovery is not None and meta.epoch < meta.recovery.epoch:
        meta.epoch, meta.vote = meta.recovery.epoch, 0
    _save_meta(folder, meta, log)
    log.epoch = meta.epoch
    _prepare_spares(log)
    shard = Shard(
        log,
        machines,
        _open_partitions(machines.partitions, log, options.index_cache_bytes_max, recovered.first_offsets),
        threads,
        counters,
        recovered.in_flight,
        commit_index=min(store.covered_index, log.next_index - 1),
        state_index=store.covered_index,
        pending_bytes_max=options.pending_bytes_max,
        uncommitted_bytes_max=options.uncommitted_bytes_max,
        on_fatal=on_fatal,
    )
    return OpenedShard(shard, store, report, meta, load_reports(disk))


def _save_meta(folder: MemberFolder, meta: Meta, log: CommitLog) -> None:
    try:
        folder.save_meta(meta)
    except OSError as error:
        if not disk_is_full(error):
            raise
        if not log.spares:
            raise DataFolderError(
                "the disk is full to the last byte: free some space, then start again"
            ) from error
        # Without a new epoch there is no start, and without a start no retention: a spare gives its room.
        log.disk.remove(log.spares.pop())
        folder.save_meta(meta)


class _Recovered:
    """Collects the entries that the snapshots do not cover."""

    def __init__(self, machines: Machines) -> None:
        self._codec = CommandCodec(machines.all())
        self.in_flight = InFlight()
        # By partition, the offset of the first batch that is not known to be committed.
        self.first_offsets: dict[int, int] = {}

    def on_entry(self, header: EntryHeader, payload: memoryview) -> None:
        if header.kind == KIND_BATCH:
            batch, base_offset = batch_in_flight(header, payload)
            self.first_offsets.setdefault(header.partition, base_offset)
            self.in_flight.add(batch)
        else:
            self.in_flight.add(CommandInFlight(header.log_index, self._codec.decode(payload)))


def _fit_segments(volume_bytes: int, options: LogOptions) -> LogOptions:
    fitting = max(volume_bytes // SEGMENTS_PER_VOLUME_MIN // _SEGMENT_STEP, 1) * _SEGMENT_STEP
    return msgspec.structs.replace(options, segment_bytes=min(options.segment_bytes, fitting))


def _prepare_spares(log: CommitLog) -> None:
    number = 0
    taken = set(log.spares)
    while len(log.spares) < SPARES_READY:
        number += 1
        name = f"{number:020d}{SPARE_SUFFIX}"
        if name in taken:
            continue
        spare = make_spare(log.disk, number, log.segment_bytes)
        if spare is None:
            break
        log.spares.append(spare)
    if not log.segments and not log.spares:
        raise DataFolderError(
            f"the disk has no room for a segment of {log.segment_bytes} bytes: free space or set log.segment.bytes lower"
        )


def _open_partitions(
    partitions: Partitions, log: CommitLog, cache_bytes_max: int, first_offsets: Mapping[int, int]
) -> PartitionTable:
    table = PartitionTable(RunCache(cache_bytes_max))
    for state in partitions.states.committed.values():
        table.open(state)
    for segment in log.segments:
        for key in segment.partitions():
            partition = table.by_key.get(key)
            if partition is not None:
                partition.attach(segment)
    for partition in table:
        partition.move_start(partition.log_start)
        partition.high_watermark = max(
            first_offsets.get(partition.key, partition.end_offset), partition.log_start
        )
    return table
