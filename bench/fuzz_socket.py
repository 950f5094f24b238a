"""A million broken frames at a real broker: `python -m bench.fuzz_socket [--frames N] [--seed N]`.

The broker must answer each or close that one connection, keep serving an honest client all the while, stay below a
named bound of memory, and not end. Frames are sent one at a time per connection, over many connections at once,
because the broker reads nothing behind the frame for which it closes; a frame counts when its answer, the close, or a
short silence (requests that wait, requests without an answer) followed it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.frames import Frames
from penstock.testing.managed_process import ServerError
from penstock.testing.process import BrokerProcess

FRAMES = 1_000_000
CONNECTIONS = 64
SILENCE_S = 0.05
RESPONSE_BYTES_MAX = 64 << 20
HONEST_INTERVAL_S = 2.0
HONEST_TIMEOUT_S = 20.0
# The listener's own bounds (queued requests and responses, 256 MiB each) plus what a broker has at rest.
RESIDENT_BYTES_MAX = 640 << 20
PROGRESS_FRAMES = 50_000
CONFIG = {"flush.policy": "async", "auto.create.topics.enable": False, "log.segment.bytes": 16 << 20}


class FuzzError(Exception):
    """The broker did what it must not; the text says what, and the seed that did it."""


class Run:
    """What is going on: how many frames are left, how they ended, how much memory the broker took at most."""

    def __init__(self, frames: int, seed: int) -> None:
        self.frames = Frames(seed)
        self.left = frames
        self.ended: Counter[str] = Counter()
        self.resident_bytes_max = 0
        self.honest_rounds = 0


async def fuzz(broker: BrokerProcess, frames: int, seed: int) -> Run:
    """Sends the frames. Raises FuzzError, or ServerError when the broker ended."""
    run = Run(frames, seed)
    host, _, port = broker.kafka.rpartition(":")
    watcher = asyncio.create_task(_watch(run, broker))
    senders = [asyncio.create_task(_send(run, host, int(port))) for _ in range(CONNECTIONS)]
    everything = asyncio.gather(*senders)
    try:
        waiting: set[asyncio.Future[Any]] = {watcher, everything}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if watcher.done():
            watcher.result()
        await everything
    finally:
        watcher.cancel()
        everything.cancel()
        await asyncio.gather(watcher, everything, return_exceptions=True)
    _honest(broker.kafka, run)
    return run


async def _send(run: Run, host: str, port: int) -> None:
    while run.left > 0:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            raise FuzzError(f"the broker accepts no connection: {error}") from error
        try:
            while run.left > 0:
                run.left -= 1
                ended = await _one(reader, writer, run.frames.next())
                run.ended[ended] += 1
                if ended != "answered":
                    break
        finally:
            writer.transport.abort()


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frame: bytes) -> str:
    """Sends one frame; how it ended."""
    try:
        writer.write(frame)
        async with asyncio.timeout(SILENCE_S):
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            if not 0 <= size <= RESPONSE_BYTES_MAX:
                raise FuzzError(f"the broker announced a response of {size} bytes")
            await reader.readexactly(size)
    except TimeoutError:
        return "silent"
    except (asyncio.IncompleteReadError, ConnectionError):
        return "closed"
    return "answered"


async def _watch(run: Run, broker: BrokerProcess) -> None:
    """Looks at the broker's memory all the time, and lets the honest client have its turn."""
    shown = run.left
    honest_at = 0.0
    while True:
        usage = broker.usage()
        run.resident_bytes_max = max(run.resident_bytes_max, usage.resident_bytes_max)
        if run.resident_bytes_max > RESIDENT_BYTES_MAX:
            raise FuzzError(
                f"the broker has {run.resident_bytes_max >> 20} MiB, over {RESIDENT_BYTES_MAX >> 20}"
            )
        if time.monotonic() > honest_at:
            await asyncio.to_thread(_honest, broker.kafka, run)
            honest_at = time.monotonic() + HONEST_INTERVAL_S
        if shown - run.left >= PROGRESS_FRAMES:
            shown = run.left
            print(
                f"fuzz: {run.left} frames left, {dict(run.ended)}, {usage.resident_bytes >> 20} MiB",
                flush=True,
            )
        await asyncio.sleep(0.2)


def _honest(bootstrap: str, run: Run) -> None:
    """An ordinary client writes a message and reads it back. Raises FuzzError when it cannot."""
    token = secrets.token_hex(16)
    told: list[tuple[object, int]] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    producer.produce(
        "honest-client", token, on_delivery=lambda error, one: told.append((error, one.offset() or 0))
    )
    producer.flush(HONEST_TIMEOUT_S)
    if not told or told[0][0] is not None:
        raise FuzzError(f"an honest message was not acknowledged within {HONEST_TIMEOUT_S:g} s: {told}")
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        consumer.assign([TopicPartition("honest-client", 0, told[0][1])])
        message = consumer.poll(HONEST_TIMEOUT_S)
        if message is None or message.error() is not None or message.value() != token.encode():
            raise FuzzError(f"an honest message was not read back at offset {told[0][1]}")
    finally:
        consumer.close()
    run.honest_rounds += 1


def main() -> int:
    """Runs it; 0 when the broker held, 1 when it did not."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_socket", description=__doc__)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that no broker is left behind.
    print(f"fuzz: {options.frames} frames, seed {options.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-fuzz-") as folder:
        broker = BrokerProcess(Path(folder), config=CONFIG, listeners=("kafka",))
        try:
            broker.start()
            _create_honest_topic(broker.kafka)
            run = uvloop.run(fuzz(broker, options.frames, options.seed))
            errors = _errors(broker)
            code = broker.terminate()
        except (FuzzError, ServerError) as error:
            print(f"fuzz: FAILED with seed {options.seed}: {error}\n{broker.tail()}", file=sys.stderr)
            return 1
        finally:
            broker.kill()
    seconds = time.monotonic() - started
    print(
        f"fuzz: frames={options.frames} answered={run.ended['answered']} closed={run.ended['closed']} "
        f"silent={run.ended['silent']} resident_mib_max={run.resident_bytes_max >> 20} "
        f"honest_rounds={run.honest_rounds} errors={len(errors)} exit={code} seconds={seconds:.0f} seed={options.seed}"
    )
    for line in errors[:10]:
        print(f"fuzz: in the broker's log: {line}", file=sys.stderr)
    return 0 if code == 0 and not errors else 1


def _create_honest_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("honest-client", 1)])["honest-client"].result(HONEST_TIMEOUT_S)


def _errors(broker: BrokerProcess) -> list[str]:
    """Lines by which the broker says that it failed itself, not its peer."""
    return [
        line
        for line in broker.log.read_text(errors="replace").splitlines()
        if " ERROR " in line or line.startswith("Traceback")
    ]


if __name__ == "__main__":
    sys.exit(main())
