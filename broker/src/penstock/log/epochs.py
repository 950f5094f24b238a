"""Which epoch each entry is of: run lengths, kept by segment.

Raft compares logs by (index, epoch), so the log answers for every index that it holds and for the one before its first.
A segment knows the epoch of the entry before it (its header says so) and where in it the epoch changes; the log's runs
are those of its segments, so what drops or cuts segments needs no care for epochs.
"""

from __future__ import annotations

# (epoch, index of the first entry of it), ascending.
EpochRuns = tuple[tuple[int, int], ...]
