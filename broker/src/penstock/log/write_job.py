"""Group commits: what the loop hands to the writer's thread, and what that does with the files."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import msgspec

from penstock.log.disk import Buffer, Disk
from penstock.log.maintenance import open_spare, remove_index
from penstock.log.segment import Segment


class Write(msgspec.Struct):
    """Buffers that go to one segment, back to back; `spare` names the file that the segment is made of first, and
    `replaced` is the empty segment whose file of the same name ends thereby."""

    segment: Segment
    position: int
    buffers: list[Buffer]
    spare: str | None = None
    replaced: Segment | None = None


class Cut(msgspec.Struct, frozen=True):
    """A truncation: `segment` ends at `position` from now on, and the `removed` ones (oldest first) are gone."""

    segment: Segment
    position: int
    removed: tuple[Segment, ...]

    def run(self, disk: Disk) -> None:
        """Blocks until it is durable. After each step, the files are a log that recovery takes."""
        # An index file proves that another segment follows, so it goes before that does.
        for segment in (self.segment, *self.removed):
            remove_index(segment)
        disk.sync_folder()
        for segment in reversed(self.removed):
            disk.remove(segment.name)
        if self.removed:
            disk.sync_folder()
        assert self.segment.file is not None
        self.segment.file.truncate(self.position)
        self.segment.file.sync()


class WriteJob:
    """One group commit. `run` blocks and belongs to the writer's thread."""

    def __init__(
        self,
        disk: Disk,
        shard_uid: uuid.UUID,
        cuts: Sequence[Cut],
        writes: Sequence[Write],
        last_index: int,
        *,
        sync: bool,
    ) -> None:
        self._disk = disk
        self._shard_uid = shard_uid
        self._cuts = cuts
        self._writes = writes
        # The newest entry that counts as written once the job is complete; a truncation meanwhile lowers it.
        self.last_index = last_index
        self.sync = sync
        self.bytes_written = 0
        self.syncs = 0
        self.sync_seconds = 0.0

    @property
    def fills_segment(self) -> bool:
        """Whether the job leaves a segment behind."""
        return len(self._writes) > 1

    @property
    def touches_files(self) -> bool:
        """Whether the job opens, leaves or cuts a segment besides writing to one."""
        return (
            bool(self._cuts) or self.fills_segment or any(write.spare is not None for write in self._writes)
        )

    def run(self) -> WriteJob:
        """Cuts, then writes; syncs where asked, and always what a segment leaves behind. Raises OSError, which is final."""
        for cut in self._cuts:
            cut.run(self._disk)
        for number, write in enumerate(self._writes):
            segment = write.segment
            if write.spare is not None:
                segment.file = open_spare(self._disk, self._shard_uid, segment, write.spare)
            assert segment.file is not None
            if write.buffers:
                self.bytes_written += segment.file.write_at(write.position, write.buffers)
            left_behind = number < len(self._writes) - 1
            if left_behind or self.sync:
                began = time.monotonic()
                segment.file.sync()
                self.syncs += 1
                self.sync_seconds += time.monotonic() - began
        return self
