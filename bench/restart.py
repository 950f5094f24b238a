"""How long a start over a full log takes: writes a log of a given size, forgets it as a crash would, opens it again.

    python -m bench.restart [--mib 1024] [--batch-bytes 16384 --batch-bytes 300]

The log is written by a real shard with its duties (index files, checkpoints), and no checkpoint is made at its end. The
second number is the same start with a log that was stopped in order.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import click

from penstock.codec.records import Record, build_batch
from penstock.log.recovery import LogOptions
from penstock.model.record_batch import parse_header
from penstock.partition.batches import KEPT_FROM
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import DataFolder, claim
from penstock.runtime.maintenance import Maintenance, MaintenanceOptions
from penstock.runtime.opening import OpenedShard, ShardOptions, open_shard
from penstock.runtime.threads import Threads
from penstock.service.api import NewTopic
from penstock.service.context import RequestContext
from penstock.service.settings import Settings
from penstock.service.topics import BrokerIdentity, TopicServiceImpl
from penstock.telemetry.counters import Counters
from penstock.testing.lone_member import lone_member, lone_view

MIB = 1024 * 1024
PARTITIONS = 100
APPENDS_PER_TURN = 200
OPTIONS = ShardOptions(LogOptions(64 * MIB, 64 * MIB, sync=False), 32 * MIB, 128 * MIB)
DUTIES = MaintenanceOptions(50, 8 * MIB, 30_000, 1.0, 1.0)


class Member:
    """A data folder with its shard, opened for one life."""

    def __init__(self, path: Path) -> None:
        self.folder = DataFolder(path)
        self.threads = Threads(asyncio.get_running_loop())
        meta = claim(self.folder, cluster_id="", shard_id=0, shard_uid="", ordinal=0, new_cluster_id="bench")
        began = time.perf_counter()
        self.opened: OpenedShard = open_shard(
            self.folder, meta, OPTIONS, self.threads, Counters(), [], self._fatal
        )
        self.open_seconds = time.perf_counter() - began
        self.duties = Maintenance(
            self.opened.shard,
            self.opened.snapshots,
            DUTIES,
            Clock(),
            lambda _: (-1, -1),
            lambda _: [],
            lambda: 1 << 50,
        )
        self.member = lone_member(self.opened, self.folder, self.duties, Clock())

    @staticmethod
    def _fatal(error: BaseException) -> None:
        raise SystemExit(f"the log cannot be written: {error}")

    async def fill(self, log_bytes: int, batch_bytes: int) -> int:
        """Writes batches until the log holds that much; returns their number."""
        self.duties.start()
        shard = self.opened.shard
        self.member.begin()
        while not shard.leading:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        identity = BrokerIdentity("bench", "bench", 1, lone_view(self.member))
        topics = TopicServiceImpl(shard, Settings(shard.machines.catalog, {}), Clock(), identity)
        await topics.create_topics(RequestContext("bench", "bench"), [NewTopic("bench", PARTITIONS)])
        batch = build_batch([Record(value=b"x" * (batch_bytes - 80), timestamp=1000)])
        header, kept = parse_header(batch), (memoryview(batch)[KEPT_FROM:],)
        partitions = [shard.table.require("bench", number) for number in range(PARTITIONS)]
        count = 0
        # The last segment is nearly full in the end, which is the worst case: a start reads it whole.
        while count * (len(batch) + 32) < log_bytes or shard.log.active.room_bytes > 2 * MIB:
            for _ in range(APPENDS_PER_TURN):
                shard.append(partitions[count % PARTITIONS], header, kept)
                count += 1
            while shard.log.pending_bytes > 8 * MIB or not shard.log.spares_for_batches():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        while not shard.idle:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return count

    async def close(self, *, in_order: bool) -> None:
        """Stops as a broker does, or lets go as a crash does."""
        if in_order:
            await self.duties.stop()
        else:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if task is not None:
                    task.cancel()
            self.opened.shard.on_written = lambda: None
            await asyncio.sleep(0.1)
        await self.threads.close()
        self.folder.close()


async def measure(mib: int, batch_bytes: int) -> None:
    """One line: seconds after a crash and after a stop."""
    path = Path(tempfile.mkdtemp(prefix="penstock-restart-"))
    try:
        writer = Member(path)
        batches = await writer.fill(mib * MIB, batch_bytes)
        await writer.close(in_order=False)
        crashed = Member(path)
        crashed_seconds, read = crashed.open_seconds, crashed.opened.report.entries_read
        await crashed.close(in_order=True)
        stopped = Member(path)
        click.echo(
            f"restart: log_mib={mib} batch_bytes={batch_bytes} batches={batches} entries_read={read}"
            f" after_crash_s={crashed_seconds:.2f} after_stop_s={stopped.open_seconds:.2f}"
        )
        await stopped.close(in_order=False)
    finally:
        shutil.rmtree(path)


@click.command()
@click.option("--mib", default=1024, help="Size of the log.")
@click.option("--batch-bytes", default=(16_384, 300), multiple=True, help="Size of the record batches.")
def main(mib: int, batch_bytes: tuple[int, ...]) -> None:
    """Measures how long opening a shard takes."""
    for size in batch_bytes:
        asyncio.run(measure(mib, size))


if __name__ == "__main__":
    main()
