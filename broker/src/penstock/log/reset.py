"""Starting the log over behind an entry that it does not hold: what a member that is seeded by its leader does.

The checkpoint makes it all or nothing: once it names the snapshots that were received and the base, the old segments
count no more, and a start after a crash finishes what was begun. Until the log has reached the snapshots' index, the
checkpoint says that as well (`SnapshotStore.seeding`): the log may end before what the snapshots cover.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from penstock.log.disk import Disk
from penstock.log.maintenance import disk_is_full, make_spare, open_spare, spare_number, usable_spares
from penstock.log.segment import INDEX_SUFFIX, SEGMENT_SUFFIX, SPARE_SUFFIX, Segment
from penstock.log.snapshots import Snapshot, SnapshotStore


class ResetJob:
    """For the writer's thread, while nothing else is under way in the log's folder. Afterwards `segment` is the log's
    only one, empty, and `spares` are those that are left."""

    def __init__(
        self,
        disk: Disk,
        shard_uid: uuid.UUID,
        segment: Segment,
        spares: Sequence[str],
        store: SnapshotStore,
        snapshots: Sequence[Snapshot],
        index: int,
    ) -> None:
        self._disk = disk
        self._shard_uid = shard_uid
        self._store = store
        self._snapshots = snapshots
        self._index = index
        self.segment = segment
        self.spares = list(spares)

    def run(self) -> ResetJob:
        """Installs the snapshots, removes all segments, makes an empty one. Raises OSError: where the disk is full, it can be
        run again from its beginning; any other is final."""
        base = (self.segment.base_index - 1, self.segment.epoch_before)
        install = partial(self._store.install, self._snapshots, self._index, reset_to=base)
        _in_room_of_spares(self._disk, self.spares, install)
        _begin_anew(self._disk, self._shard_uid, self.segment, self.spares)
        _in_room_of_spares(self._disk, self.spares, self._store.reset_done)
        return self


def finish_reset(disk: Disk, shard_uid: uuid.UUID, store: SnapshotStore, segment_bytes: int) -> bool:
    """Finishes a reset that a crash cut short, as the loaded checkpoint tells; whether there was one. Call it before
    `open_log`. Raises OSError."""
    if store.reset_to is None:
        return False
    index, epoch = store.reset_to
    segment = Segment(disk, index + 1, None, segment_bytes, epoch)
    spares = usable_spares(disk, segment_bytes)
    _begin_anew(disk, shard_uid, segment, spares)
    _in_room_of_spares(disk, spares, store.reset_done)
    return True


def _in_room_of_spares(disk: Disk, spares: list[str], write: Callable[[], None]) -> None:
    """Writes; on a full disk spares give their room, one after the other."""
    while True:
        try:
            write()
        except OSError as error:
            if not disk_is_full(error) or not spares:
                raise
        else:
            return
        disk.remove(spares.pop())


def _begin_anew(disk: Disk, shard_uid: uuid.UUID, segment: Segment, spares: list[str]) -> None:
    """Removes all segments and makes an empty one, of a spare if there is one (which leaves `spares`)."""
    names = disk.names()
    for name in names:
        if name.endswith((SEGMENT_SUFFIX, INDEX_SUFFIX)):
            disk.remove(name)
    disk.sync_folder()
    if not spares:
        taken = [spare_number(name) for name in names if name.endswith(SPARE_SUFFIX)]
        spare = make_spare(disk, max(taken, default=0) + 1, segment.size_bytes)
        if spare is None:
            raise OSError(errno.ENOSPC, "the disk has no room for a segment of the log")
        spares.append(spare)
    segment.file = open_spare(disk, shard_uid, segment, spares.pop(0))
