"""What the log's tests share: opening a log on any disk, appending real batches, reading everything back."""

from __future__ import annotations

import uuid

from penstock.codec.entry import KIND_BATCH, EntryHeader
from penstock.codec.records import Record, build_batch
from penstock.log.commit_log import SPARES_READY, CommitLog
from penstock.log.disk import Disk
from penstock.log.maintenance import make_spare, write_index
from penstock.log.recovery import LogOptions, RecoveryReport, open_log
from penstock.model.record_batch import parse_header

SHARD = uuid.UUID("11111111-2222-3333-4444-555555555555")
SEGMENT_BYTES = 4096


class Log:
    """A commit log driven by hand: append, then `commit` runs the write job."""

    def __init__(
        self,
        disk: Disk,
        *,
        sync: bool = True,
        covered: int = 0,
        epoch: int = 1,
        segment_bytes: int = SEGMENT_BYTES,
        cache_bytes: int = 1 << 20,
        seeding: bool = False,
    ) -> None:
        self.disk = disk
        self.replayed: list[tuple[EntryHeader, bytes]] = []
        options = LogOptions(segment_bytes=segment_bytes, cache_bytes_max=cache_bytes, sync=sync)
        self.log: CommitLog
        self.report: RecoveryReport
        self.log, self.report = open_log(
            disk,
            SHARD,
            options,
            epoch=epoch,
            covered_index=covered,
            on_entry=self._on_entry,
            seeding=seeding,
        )
        self.log.epoch = epoch
        self._spares = 0
        self.fill_spares()

    def _on_entry(self, header: EntryHeader, payload: memoryview) -> None:
        self.replayed.append((header, bytes(payload)))

    def fill_spares(self) -> None:
        while len(self.log.spares) < SPARES_READY:
            self._spares += 1
            while f"{self._spares:020d}.spare" in self.disk.names():
                self._spares += 1
            name = make_spare(self.disk, self._spares, self.log.segment_bytes)
            if name is None:
                return
            self.log.spares.append(name)

    def append(self, partition: int, base: int, values: list[bytes], timestamp: int = 1000) -> int:
        """One batch with the given values; returns its index."""
        batch = build_batch([Record(value=value, timestamp=timestamp) for value in values], base)
        header = parse_header(batch)
        return self.log.append_batch(
            partition, (batch,), len(batch), base, base + len(values), header.max_timestamp
        )

    def command(self, payload: bytes) -> int:
        """One command; returns its index."""
        return self.log.append_command(payload)

    def shipped(self, first: int, last: int) -> bytes:
        """The bytes of these entries, as another replica gets them."""
        return b"".join(self.log.entries(first, last).read())

    def commit(self) -> None:
        job = self.log.take_job()
        if job is not None:
            self.log.complete(job.run())
        for segment in self.log.unsealed_segments():
            segment.seal(write_index(segment))
        self.fill_spares()

    def batches(self) -> list[tuple[int, int, bytes]]:
        """(index, partition, payload) of every replayed batch."""
        return [(h.log_index, h.partition, payload) for h, payload in self.replayed if h.kind == KIND_BATCH]
