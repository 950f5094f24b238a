"""`penstock broker`: runs one broker until it is told to stop, and says with its exit code how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

import uvloop

from penstock.config.broker_config import BrokerConfig
from penstock.log.errors import DataFolderError, LogDamagedError, ReleaseTooOldError
from penstock.log.maintenance import disk_is_full
from penstock.process.assembly import Broker, exit_now
from penstock.runtime.comparing import StateDivergedError
from penstock.runtime.forgetting import mark_diverged, mark_failed_sync
from penstock.runtime.mastership import MastershipLostError
from penstock.telemetry.logs import describe_process, fields

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_CANNOT_LISTEN = 1
EXIT_DATA_FOLDER = 3
EXIT_DAMAGED = 4
EXIT_STORAGE = 5
EXIT_NOT_MASTER = 6

# A thread that has an answer for the loop gets its turn within this time, instead of Python's 5 ms.
SWITCH_INTERVAL_SECONDS = 0.0005
# Young objects that are looked at per collection: requests die young and in bulk.
GC_THRESHOLD = 50_000


def run_broker(config: BrokerConfig) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    return uvloop.run(_run(config))


class _Life:
    """From a start to its end: by a signal, or because the broker wants to start anew."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.again = False
        self._stopped = False

    def stop(self) -> None:
        """For good, also while a stop to start anew is under way."""
        self._stopped, self.again = True, False
        self.over.set()

    def restart(self) -> None:
        """Another life is to follow."""
        self.again = not self._stopped
        self.over.set()


async def _run(config: BrokerConfig) -> int:
    while True:
        life = _Life()
        code = await _live(config, life)
        if not life.again:
            return code
        logger.info("starting anew")
        gc.unfreeze()


async def _live(config: BrokerConfig, life: _Life) -> int:
    broker = Broker(config, partial(_fatal, config.data), life.restart)
    describe_process(broker.described)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop)
    try:
        await broker.start()
    except DataFolderError as error:
        return _refuse(error, EXIT_DATA_FOLDER)
    except LogDamagedError as error:
        return _refuse(error, EXIT_DAMAGED)
    except OSError as error:
        return _refuse(error, EXIT_CANNOT_LISTEN)
    # What lives as long as the process need not be looked at by the collector again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    if config.ready_file is not None:
        _write_ready(config.ready_file, broker.listener_addresses)
    logger.info("ready", extra=fields(data=str(config.data), **broker.listener_addresses))
    await life.over.wait()
    logger.info("stopping")
    await broker.stop()
    if config.ready_file is not None:
        with contextlib.suppress(OSError):
            config.ready_file.unlink()
    logger.info("stopped")
    return EXIT_OK


def _refuse(error: Exception, code: int) -> int:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    logger.error("%s", text)
    return code


def _fatal(data: Path, error: BaseException) -> None:
    if isinstance(error, OSError) and not disk_is_full(error):
        mark_failed_sync(data)
    if isinstance(error, ReleaseTooOldError):
        logger.critical("the broker ends: %s", error)
        exit_now(EXIT_DATA_FOLDER)
    if isinstance(error, MastershipLostError):
        logger.warning("the broker ends, to begin anew as a follower: %s", error)
        exit_now(EXIT_NOT_MASTER)
    if isinstance(error, StateDivergedError):
        mark_diverged(data, str(error))
        logger.critical("the broker ends, and will be sent everything anew: %s", error)
        exit_now(EXIT_STORAGE)
    logger.critical("the log cannot be written any more, the broker ends at once: %s", error)
    exit_now(EXIT_STORAGE)


def _write_ready(path: Path, addresses: dict[str, str]) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({"pid": os.getpid(), "listeners": addresses}))
    temporary.replace(path)
