"""Starting the log over behind an entry that it does not hold: what a member that is seeded by its leader does.

The checkpoint is what makes it all or nothing: once it names the snapshots that were received and the base, the old
segments count no more, and a start after a crash finishes what was begun. Until the log has reached the snapshots'
index, the checkpoint says so too (`SnapshotStore.seeding`): the log may end before what the snapshots cover.
"""

from __future__ import annotations

from penstock.log.segment import Segment


class ResetJob:
    """For the writer's thread; nothing else may be under way in the log's folder."""

    segment: Segment

    def run(self) -> ResetJob:
        """Installs the snapshots, removes all segments, makes an empty one. Raises OSError, which is final."""
        raise AssertionError
