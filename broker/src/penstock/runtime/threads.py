"""The threads beside the loop: one that writes the log, one for slow file work, a few that read.

Each takes plain functions and gives the outcome back on the loop. The writer is a thread of its own rather than an
executor, because its turn-around is part of every produce request's latency.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

READER_THREADS = 2


class Worker:
    """One thread that runs functions in order; `done(result, error)` is called on the loop after each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[
            tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]] | None
        ]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Queues a function. The caller bounds how many: the log has one job under way at most."""
        self._queue.put((function, done))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._work(*item)
            # While it waits, the thread must not hold what it wrote to: a removed file keeps its room as long.
            del item

    def _work(self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        try:
            result, error = function(), None
        except BaseException as raised:  # the loop decides what an error means, whatever it is
            result, error = None, raised
        self._loop.call_soon_threadsafe(done, result, error)

    async def close(self) -> None:
        """Waits until everything queued is done and the thread has ended."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)


class Threads:
    """All threads of a broker. `background` runs one slow job after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Reads that were asked for and are not done.
        self.reads_open = 0
        self.writer = Worker(loop, "log-writer")
        self._background = ThreadPoolExecutor(1, "background")
        self._flusher = ThreadPoolExecutor(1, "flusher")
        self._readers = ThreadPoolExecutor(READER_THREADS, "reader")

    def write(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Runs what must come behind the log's writes."""
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.writer.submit(function, done)
        return future

    def background(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Runs slow file work: spares, snapshots, removals."""
        return self._loop.run_in_executor(self._background, function)

    def flush(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Runs the syncs of `flush: async`, which must not wait behind other file work."""
        return self._loop.run_in_executor(self._flusher, function)

    def read(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Runs reads of old segments."""
        self.reads_open += 1
        read = self._loop.run_in_executor(self._readers, function)
        read.add_done_callback(self._read_done)
        return read

    def _read_done(self, _: asyncio.Future[Any]) -> None:
        self.reads_open -= 1

    async def close(self) -> None:
        """Waits for everything that was begun."""
        await self.writer.close()
        for executor in (self._background, self._flusher, self._readers):
            await asyncio.to_thread(executor.shutdown)
