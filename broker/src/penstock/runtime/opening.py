"""From a data folder to a shard that can serve: snapshots, log, replay, partitions, a new epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from penstock.catalog.partitions import Partitions, PartitionsDropped, opened
from penstock.catalog.placement import misplaced
from penstock.catalog.topics import Catalog
from penstock.codec.entry import KIND_BATCH, EntryHeader
from penstock.log.commit_log import SPARES_READY, CommitLog
from penstock.log.disk import Disk
from penstock.log.errors import DataFolderError, LogDamagedError
from penstock.log.maintenance import disk_is_full, make_spare
from penstock.log.recovery import LogOptions, RecoveryReport, open_log
from penstock.log.segment import SPARE_SUFFIX
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.model.commands import StateMachine
from penstock.model.errors import PenstockError
from penstock.model.record_batch import NO_PRODUCER_ID, PRODUCER_ID, PRODUCER_ID_AT, parse_header
from penstock.partition.partition import RunCache
from penstock.partition.table import PartitionTable
from penstock.runtime.command_codec import CommandCodec
from penstock.runtime.data_folder import Meta
from penstock.runtime.shard import Machines, Shard
from penstock.runtime.threads import Threads
from penstock.session.producers import PartitionProducersDropped, ProducerSessions
from penstock.telemetry.counters import Counters

# A volume holds at least this many segments, so that small volumes get small ones.
SEGMENTS_PER_VOLUME_MIN = 16
_SEGMENT_STEP = 1024 * 1024


class ShardOptions(msgspec.Struct, frozen=True):
    """What opening needs of the settings; bytes throughout."""

    log: LogOptions
    index_cache_bytes_max: int
    pending_bytes_max: int


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
    machines = Machines(Catalog(), Partitions(), ProducerSessions(meta.shard_id), others)
    store = SnapshotStore(disk)
    snapshots = store.load()
    _restore(machines.all(), snapshots)
    replay = _Replay(machines)
    log_options = _fit_segments(disk.space_bytes()[0], options.log)
    log, report = open_log(
        disk,
        meta.shard_uid,
        log_options,
        epoch=meta.epoch,
        covered_index=store.covered_index,
        on_entry=replay.on_entry,
    )
    meta.epoch = max(meta.epoch, replay.epoch) + 1
    _save_meta(folder, meta, log)
    log.epoch = meta.epoch
    _prepare_spares(log)
    table = _open_partitions(machines.partitions, log, options.index_cache_bytes_max)
    shard = Shard(
        log,
        machines,
        table,
        threads,
        counters,
        pending_bytes_max=options.pending_bytes_max,
        on_fatal=on_fatal,
    )
    _repair_placement(shard, report)
    return OpenedShard(shard, store, report, meta)


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


def _repair_placement(shard: Shard, report: RecoveryReport) -> None:
    missing, surplus = misplaced(shard.machines.catalog, shard.machines.partitions)
    commands = opened(missing)
    if surplus:
        keys = tuple(surplus)
        commands += [PartitionsDropped(keys), PartitionProducersDropped(keys)]
    if not commands:
        return
    report.sentences.append(
        f"a change of topics was cut short: {len(missing)} partitions are opened and {len(surplus)} dropped now"
    )
    try:
        shard.propose(commands)
    except PenstockError as error:
        report.sentences.append(f"that has to wait for the next start: {error.sentence}")


def _restore(machines: Sequence[StateMachine], snapshots: dict[str, Snapshot]) -> None:
    for machine in machines:
        snapshot = snapshots.get(machine.name)
        if snapshot is None:
            continue
        if snapshot.version > machine.version:
            raise DataFolderError(
                f"the snapshot of {machine.name} has version {snapshot.version}, this release reads"
                f" {machine.version}: upgrade Penstock"
            )
        try:
            machine.restore(snapshot.data)
        except (msgspec.DecodeError, ValueError) as error:
            raise LogDamagedError(
                f"the snapshot of {machine.name} as of entry {snapshot.index} cannot be read ({error}):"
                " restore the volume from a replica or a backup"
            ) from error
    unknown = snapshots.keys() - {machine.name for machine in machines}
    if unknown:
        raise DataFolderError(
            f"there is a snapshot of {', '.join(sorted(unknown))}, which this release does not know: upgrade Penstock"
        )


class _Replay:
    def __init__(self, machines: Machines) -> None:
        self._producers = machines.producers
        self._codec = CommandCodec(machines.all())
        self.epoch = 0

    def on_entry(self, header: EntryHeader, payload: memoryview) -> None:
        self.epoch = header.epoch
        if header.kind == KIND_BATCH:
            if PRODUCER_ID.unpack_from(payload, PRODUCER_ID_AT)[0] != NO_PRODUCER_ID:
                self._producers.apply_batch(header.log_index, header.partition, parse_header(payload))
        else:
            command = self._codec.decode(payload)
            self._codec.machine_of(command).apply(header.log_index, command)


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


def _open_partitions(partitions: Partitions, log: CommitLog, cache_bytes_max: int) -> PartitionTable:
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
        # With one broker, everything that the log holds counts.
        partition.high_watermark = partition.end_offset
    return table
