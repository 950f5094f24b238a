"""A shard's commit log: entries get an index and a place here, and leave as write jobs for another thread.

One thread (the loop) calls everything but `WriteJob.run`; nothing here blocks. Appending (`penstock.log.appending`)
gathers entries; `take_job` hands all that was gathered since the last job to the writer, which writes it with one
`writev` per segment and, under `flush: sync`, one `fdatasync`; `complete` takes the outcome back. At most one job is
under way, so whatever arrives meanwhile becomes the next group commit.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Sequence

from penstock.log import epochs, shipping
from penstock.log.appending import SPARES_READY as SPARES_READY
from penstock.log.appending import LogTail
from penstock.log.disk import Disk
from penstock.log.reset import ResetJob
from penstock.log.segment import Segment
from penstock.log.segment_index import SegmentIndex
from penstock.log.shipping import Shipment
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.log.tail_cache import TailCache
from penstock.log.truncation import Truncation, cut_segments, trim_writes
from penstock.log.write_job import Cut
from penstock.log.write_job import WriteJob as WriteJob


class CommitLog(LogTail):
    """The log as the loop sees it. Build it with `penstock.log.recovery.open_log`."""

    def __init__(
        self,
        disk: Disk,
        shard_uid: uuid.UUID,
        *,
        segments: list[Segment],
        spares: Sequence[str],
        segment_bytes: int,
        cache: TailCache,
        sync: bool,
    ) -> None:
        super().__init__(disk, segments, spares, segment_bytes, cache)
        self.shard_uid = shard_uid
        self.sync = sync
        self.written_index = self.next_index - 1
        self.bytes_since_sync = 0
        # Files that the next job cuts before it writes.
        self._cuts: list[Cut] = []
        self._job: WriteJob | None = None
        self._reset: ResetJob | None = None
        # What the sync that is under way outside of jobs can make durable.
        self._syncing_index = self.written_index

    # --- writing ---------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `take_job` has something to do once no job is under way: writes, or files to be cut."""
        return bool(self._writes or self._cuts)

    @property
    def has_job(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    def take_job(self, *, sync: bool | None = None) -> WriteJob | None:
        """All that was appended or truncated since the last job, or None (nothing to do, or a job is under way)."""
        if self._job is not None or not self.has_work:
            return None
        cuts, self._cuts = self._cuts, []
        writes, self._writes = self._writes, []
        self._pending_bytes = 0
        self._job = WriteJob(
            self.disk,
            self.shard_uid,
            cuts,
            writes,
            self.next_index - 1,
            sync=self.sync if sync is None else sync,
        )
        return self._job

    def complete(self, job: WriteJob) -> None:
        """Takes a job's outcome back: what is written, what is durable."""
        self._job = None
        self.written_index = job.last_index
        self.cache.written(job.last_index)
        if job.sync:
            self.durable_index = job.last_index
            self.bytes_since_sync = 0
        else:
            self.bytes_since_sync += job.bytes_written
        number = len(self.segments) - 2
        while number >= 0 and not self.segments[number].followed:
            # Where an entry of the next segment is written, that one's file and name are durable.
            self.segments[number].followed = self.segments[number].last_index < self.written_index
            number -= 1

    def mark_durable(self, index: int) -> None:
        """The sync that `unsynced_segment` was asked for made everything up to `index` durable, as far as it was not
        truncated meanwhile."""
        self.durable_index = max(self.durable_index, min(index, self._syncing_index))

    def unsynced_segment(self) -> Segment | None:
        """The one segment that holds what is written and not synced: earlier ones were synced when they were left behind,
        later ones are still being opened by the job under way. Whoever syncs it calls `mark_durable` next."""
        self._syncing_index = self.written_index
        if self.written_index <= self.durable_index:
            return None
        return next(
            (segment for segment in reversed(self.segments) if segment.base_index <= self.written_index), None
        )

    # --- what is kept ----------------------------------------------------------------------------

    def unsealed_segments(self, committed_index: int | None = None) -> list[Segment]:
        """Segments that are no longer written to and have no index file yet; where given, only those up to the committed
        entry, which no leader can ask to be truncated. The next segment of each is durable."""
        return [
            segment
            for segment in self.segments
            if segment.followed
            and segment.index is not None
            and (committed_index is None or segment.last_index <= committed_index)
        ]

    @property
    def first_index(self) -> int:
        """The oldest entry that is still there."""
        return self.segments[0].base_index if self.segments else self.next_index

    @property
    def size_bytes(self) -> int:
        """Bytes of entries over all segments."""
        return sum(segment.write_position for segment in self.segments)

    def drop_first(self) -> Segment:
        """Takes the oldest sealed segment out of the log; the caller removes its files."""
        segment = self.segments.pop(0)
        segment.removed = True
        return segment

    # --- epochs ----------------------------------------------------------------------------------

    def epoch_of(self, index: int) -> int:
        """The epoch of an entry from `first_index` - 1 to the newest. Raises IndexError for any other."""
        return epochs.epoch_of(self.segments, index)

    @property
    def epoch_runs(self) -> epochs.EpochRuns:
        """(epoch, first index) for every epoch that an entry of the log has."""
        return epochs.epoch_runs(self.segments)

    # --- truncation ------------------------------------------------------------------------------

    def truncate(self, from_index: int, loaded: SegmentIndex | None = None) -> Truncation:
        """Takes away the entries from `from_index` on, which is at least `first_index`. The log is as if they had never
        been, at once, also while a job is under way; the next job cuts the files before it writes what is appended
        meanwhile, so what is complete behind it is durable without them. Raises SealedSegmentError (nothing is done)."""
        if not self.first_index <= from_index <= self.next_index:
            raise ValueError(f"the log holds {self.first_index} to {self.next_index - 1}, not {from_index}")
        if from_index == self.next_index:
            return Truncation(from_index, {}, ())
        number = epochs.segment_number(self.segments, from_index)
        segment, later = self.segments[number], self.segments[number + 1 :]
        cut = cut_segments(self.segments[number:], from_index, loaded)
        del self.segments[number + 1 :]
        in_files = max(self.written_index, self._job.last_index if self._job is not None else 0)
        if from_index <= in_files:
            # All that is pending lies behind. The file ends with its entries from now on, so it has no room either.
            unborn = [write.segment for write in self._writes if write.spare is not None]
            begun = [each for each in later if each not in unborn]
            begun += [write.replaced for write in self._writes if write.replaced is not None]
            self._writes, spares = trim_writes(self._writes, segment, [segment, *later])
            self._cuts.append(Cut(segment, segment.write_position, tuple(begun)))
            segment.size_bytes = segment.write_position
        else:
            self._writes, spares = trim_writes(self._writes, segment, later)
        self.spares.extendleft(reversed(spares))
        self._pending_bytes = sum(len(buffer) for write in self._writes for buffer in write.buffers)
        self._forget_from(from_index)
        return cut

    def _forget_from(self, index: int) -> None:
        last = index - 1
        self.cache.cut(index)
        self.next_index = index
        self.written_index = min(self.written_index, last)
        self.durable_index = min(self.durable_index, last)
        self._syncing_index = min(self._syncing_index, last)
        if self._job is not None:
            self._job.last_index = min(self._job.last_index, last)

    # --- shipping --------------------------------------------------------------------------------

    def fitting(self, first_index: int, bytes_max: int) -> int:
        """The last index up to which whole entries from `first_index` (which is there) fit into `bytes_max`; at least
        `first_index`. Cheap; in sealed segments it may say up to 128 KiB less."""
        return shipping.fitting(self.segments, first_index, bytes_max)

    def span_bytes(self, first_index: int, last_index: int) -> int:
        """About how many bytes these entries, which are all there, have."""
        return shipping.span_bytes(self.segments, first_index, last_index)

    def entries(self, first_index: int, last_index: int) -> Shipment:
        """The entries from `first_index` to `last_index`, which are all there, as they go to another replica."""
        cached = min(max(self.cache.first_index, first_index), last_index + 1)
        ranges = shipping.file_ranges(self.segments, first_index, cached - 1)
        return Shipment(first_index, last_index, ranges, self.cache.buffers(cached, last_index))

    def digest(self, first_index: int, last_index: int) -> Callable[[], str]:
        """A function for a reader's thread that gives a hash of these (written) entries: the same on every replica that
        holds the same ones, whatever its segments. It raises LogDamagedError, EntriesGoneError, OSError."""
        return shipping.digest(self.segments, first_index, last_index)

    # --- starting over ---------------------------------------------------------------------------

    def begin_reset(
        self,
        base_index: int,
        base_epoch: int,
        store: SnapshotStore,
        snapshots: Sequence[Snapshot],
        index: int,
    ) -> ResetJob:
        """A job that replaces all snapshots by those received, as of `index`, and the log by an empty one that goes on
        at `base_index` + 1, where `base_epoch` is the epoch of entry `base_index`, which is at most `index`. No write
        job, checkpoint or removal may be under way; nothing may be appended until `complete_reset`."""
        assert self._job is None, "the job under way has to be completed before a reset"
        assert self._reset is None, "a reset is under way"
        for segment in self.segments:
            segment.removed, segment.followed = True, False
            segment.cuts += 1
        spares = [*self.spares, *(write.spare for write in self._writes if write.spare is not None)]
        self.segments, self.spares = [], deque()
        self._cuts, self._writes, self._pending_bytes = [], [], 0
        base = Segment(self.disk, base_index + 1, None, self.segment_bytes, base_epoch)
        self._being_reset = True
        self._reset = ResetJob(self.disk, self.shard_uid, base, spares, store, snapshots, index)
        return self._reset

    def complete_reset(self, job: ResetJob) -> None:
        """Takes the outcome of a reset back. Whoever looks after partitions has to build them anew."""
        assert job is self._reset
        self._reset, self._being_reset = None, False
        self.segments = [job.segment]
        self.spares.extend(job.spares)
        self.next_index = job.segment.base_index
        self.written_index = self.durable_index = self._syncing_index = self.next_index - 1
        self.bytes_since_sync = 0
        self.cache.clear(self.next_index)
