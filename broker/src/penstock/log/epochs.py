"""Which epoch each entry is of: run lengths, kept by segment.

Raft compares logs by (index, epoch), so the log answers for every index that it holds and for the one before its first.
A segment knows the epoch of the entry before it (its header says so) and where in it the epoch changes; the log's runs
are those of its segments, so what drops or cuts segments needs no care for epochs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter, itemgetter

from penstock.log.segment import Segment

# (epoch, index of the first entry of it), ascending.
EpochRuns = tuple[tuple[int, int], ...]

_base_index = attrgetter("base_index")
_first_index = itemgetter(1)


def segment_number(segments: Sequence[Segment], index: int) -> int:
    """Which segment has the place of that entry; -1 for entries before the first segment."""
    return bisect_right(segments, index, key=_base_index) - 1


def epoch_of(segments: Sequence[Segment], index: int) -> int:
    """The epoch of an entry, or of the one before the first. Raises IndexError for entries that are not there."""
    number = segment_number(segments, index)
    if number >= 0:
        segment = segments[number]
        if index <= segment.last_index:
            epochs = segment.epochs
            return epochs[bisect_right(epochs, index, key=_first_index) - 1][0]
    elif segments and index == segments[0].base_index - 1:
        return segments[0].epoch_before
    elif not segments and index == 0:
        return 0
    raise IndexError(f"the log does not hold entry {index}")


def epoch_runs(segments: Sequence[Segment]) -> EpochRuns:
    """All of the log's runs."""
    runs: list[tuple[int, int]] = []
    for segment in segments:
        epochs = segment.epochs
        begins_another = epochs and (not runs or runs[-1][0] != epochs[0][0])
        runs.extend(epochs if begins_another else epochs[1:])
    return tuple(runs)
