"""Sets aside what is about to be cut from the log although a master may have acknowledged it: `replication: async`.

The entries go as they are into a file of the log's folder, `FIRST-EPOCH.forked`, and what they are into the same name with
`.json`. The name says which entries of which epoch: what is set aside again after a crash takes its own place. Nothing ever
removes these files but a person; when they reach their limit, more of them keep only what they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import msgspec

from penstock.log.disk import Disk
from penstock.log.maintenance import DISK_FULL_RETRY_SECONDS, disk_is_full
from penstock.log.shipping import Shipment
from penstock.raft.ready import Tail
from penstock.replication.forked_tail import ForkedTail, count_entries, fitting
from penstock.runtime.comparing import StateDivergedError
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)

FORKED_SUFFIX = ".forked"
REPORT_SUFFIX = ".forked.json"
# All such files of a broker together. What comes first in the log is kept.
FORKED_BYTES_MAX = 256 * 1024 * 1024
# Reports that a broker shows: the newest.
REPORTS_MAX = 16
REPORT_BYTES_MAX = 1024 * 1024
# Partitions of which a log line is written; the file beside the entries has all.
PARTITIONS_LOGGED_MAX = 50
# As much is in memory at once while a tail is set aside.
PIECE_BYTES = 4 * 1024 * 1024


class LogForkedError(StateDivergedError):
    """This replica has applied what is not in the shard's log any more. The text is a sentence."""

    def __init__(self, tail: Tail) -> None:
        super().__init__(
            f"entries {tail.first} to {tail.last} of this log are not in the new master's, and the state here holds them"
        )


class ForkedTails:
    """`reports` are the tails that this folder holds, the oldest first."""

    def __init__(self, shard: Shard, reports: Sequence[ForkedTail] = ()) -> None:
        self.reports = list(reports)
        self._shard = shard

    def keep(self, tail: Tail, then: Callable[[], None]) -> None:
        """Calls back when the entries are set aside; never if that fails, and then the broker ends."""
        log = self._shard.log
        pieces: list[tuple[Shipment, int]] = []
        first = tail.first
        while first <= tail.last:
            last = min(log.fitting(first, PIECE_BYTES), tail.last)
            pieces.append((log.entries(first, last), log.span_bytes(first, last)))
            first = last + 1
        writing = self._shard.threads.background(partial(_write, log.disk, tail, pieces))
        writing.add_done_callback(partial(self._written, tail, then))

    def _written(self, tail: Tail, then: Callable[[], None], writing: asyncio.Future[ForkedTail]) -> None:
        if writing.cancelled():
            return
        error = writing.exception()
        if isinstance(error, OSError) and disk_is_full(error):
            logger.warning("the end of the log cannot be set aside before the disk has room for it")
            asyncio.get_running_loop().call_later(DISK_FULL_RETRY_SECONDS, self.keep, tail, then)
            return
        if error is not None:
            self._shard.fail(error)
            return
        self._report(writing.result())
        then()

    def _report(self, report: ForkedTail) -> None:
        known = [each for each in self.reports if each.file != report.file]
        self.reports = [*known, report][-REPORTS_MAX:]
        counters = self._shard.counters
        counters.forked_entries += report.entries
        counters.forked_messages += report.messages
        logger.error(
            "entries %d to %d of this log are not in the new master's: %d messages that may have been acknowledged; %d of %d"
            " entries are set aside in %s",
            report.first_index,
            report.last_index,
            report.messages,
            report.kept_entries,
            report.entries,
            report.file,
        )
        for key, offsets in islice(report.partitions.items(), PARTITIONS_LOGGED_MAX):
            logger.error(
                "of partition %d these are offsets %d to %d, %d messages",
                key,
                offsets.first,
                offsets.last,
                offsets.messages,
            )


def load_reports(disk: Disk) -> list[ForkedTail]:
    """Of the tails that were set aside before, the newest. At start; raises OSError. One that cannot be read is passed over:
    it is for people, and its entries are still there."""
    reports = []
    for name in [name for name in disk.names() if name.endswith(REPORT_SUFFIX)][-REPORTS_MAX:]:
        try:
            reports.append(msgspec.json.decode(disk.open(name).read_at(0, REPORT_BYTES_MAX), type=ForkedTail))
        except msgspec.DecodeError as error:
            logger.warning("%s cannot be read: %s", name, error)
    return reports


def _write(disk: Disk, tail: Tail, pieces: Sequence[tuple[Shipment, int]]) -> ForkedTail:
    """In a thread. The pieces come with about how many bytes they have."""
    name = f"{tail.first:020d}-{tail.epochs[-1][0] if tail.epochs else 0:010d}{FORKED_SUFFIX}"
    report = ForkedTail(name, tail.first, tail.last, [epoch for epoch, _ in tail.epochs], tail.exact)
    room = FORKED_BYTES_MAX - sum(
        disk.open(other).size() for other in disk.names() if other.endswith(FORKED_SUFFIX) and other != name
    )
    temporary = name + ".new"
    file = disk.open(temporary, create=True)
    file.truncate(0)
    left = sum(size for _, size in pieces)
    for piece, about_bytes in pieces:
        data = memoryview(b"".join(piece.read()))
        count_entries(report, data)
        # What is kept has no gaps: the oldest, or the newest.
        joins = report.kept_first_index + report.kept_entries == piece.first_index
        if joins or (not report.kept_first_index and (tail.exact or left <= room)):
            entries, size = fitting(data, room - report.kept_bytes)
            file.write_at(report.kept_bytes, [data[:size]])
            report.kept_first_index = report.kept_first_index or piece.first_index
            report.kept_entries += entries
            report.kept_bytes += size
        left -= about_bytes
    file.sync()
    disk.rename(temporary, name)
    disk.write_atomic(name.removesuffix(FORKED_SUFFIX) + REPORT_SUFFIX, msgspec.json.encode(report))
    return report
