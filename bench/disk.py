"""What it costs this disk to make a write durable; it decides every `sync` figure, so it is measured first."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

WRITES = 300
WRITE_BYTES = 4096
FILE_BYTES = 16 << 20


class SyncCost(NamedTuple):
    """Times of one 4 KiB write into a preallocated file and its fdatasync, in milliseconds."""

    p50_ms: float
    p99_ms: float
    highest_ms: float


def sync_cost(folder: Path, writes: int = WRITES) -> SyncCost:
    """Measures in a file of its own below `folder`, the file system the brokers will write to."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        descriptor = file.fileno()
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
        os.fsync(descriptor)
        for number in range(writes):
            started = time.perf_counter()
            os.pwrite(descriptor, os.urandom(WRITE_BYTES), number * WRITE_BYTES % FILE_BYTES)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return SyncCost(times[len(times) // 2], times[len(times) * 99 // 100], times[-1])
