"""What a member keeps on disk to know whether it has forgotten, and how it starts over beside those who have not.

Nothing is thrown away before another broker was met that knows the shard: with nobody to learn from, a damaged log is
still the best there is, and a person has to decide.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from penstock.codec.peer import PeerFrame
from penstock.log.errors import LogDamagedError
from penstock.log.recovery import discard_log
from penstock.runtime.data_folder import DataFolder, Meta
from penstock.runtime.links import Address, Links
from penstock.session.peer_connection import Greeting

logger = logging.getLogger(__name__)

MARKER_NAME = "sync-failed"
DIVERGED_NAME = "state-diverged"
# How long another broker of the shard is looked for before the start is given up.
MEETING_SECONDS_MAX = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The running kernel's boot; empty where the system does not tell, which then counts as always the same."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def mark_failed_sync(data: Path) -> None:
    """Notes that a sync failed. It need not reach the disk: only while the page cache lives can it show what the disk
    lacks, and as long lives the note."""
    try:
        (data / MARKER_NAME).write_text(boot_id())
    except OSError as error:
        logger.error("the failed sync could not be noted in %s: %s", data, error.strerror)


def failed_sync_boot(data: Path) -> str:
    """The boot in which a sync failed, empty for none."""
    try:
        return (data / MARKER_NAME).read_text()
    except OSError:
        return ""


def mark_diverged(data: Path, reason: str) -> None:
    """Notes that the state here is not the other replicas'. Should a power loss take the note, they find out again."""
    try:
        (data / DIVERGED_NAME).write_text(reason)
    except OSError as error:
        logger.error("that the state differs could not be noted in %s: %s", data, error.strerror)


def why_diverged(data: Path) -> str | None:
    """The sentence that was noted, if any."""
    try:
        return (data / DIVERGED_NAME).read_text()
    except OSError:
        return None


async def start_over(
    folder: DataFolder,
    meta: Meta,
    peers: Mapping[int, Address],
    greeting: Callable[[Meta], Greeting],
    reason: str,
) -> Meta:
    """The identity of a new, empty member in the same folder, once a broker was met that knows the shard. Raises
    LogDamagedError when there is none."""
    generation = meta.joined[0] if meta.recovery is None else meta.recovery.generation
    fresh = msgspec.structs.replace(
        meta, storage_id=uuid.uuid4(), vote=0, led=0, running_boot="", recovery=None, joined=(0, "")
    )
    logger.warning("this member has forgotten: %s; it starts over and is sent everything again", reason)
    met = asyncio.Event()

    def joined(other: Greeting) -> None:
        # Who is of before the shard's last recovery has nothing to teach.
        if other.founded and other.generation >= generation:
            met.set()

    def ignored(*_: Greeting | PeerFrame) -> None:
        """Nothing else matters before it has joined."""

    links = Links(
        peers,
        lambda: greeting(fresh),
        on_joined=joined,
        on_left=ignored,
        on_gone=ignored,
        on_frame=ignored,
    )
    links.dial()
    try:
        await asyncio.wait_for(met.wait(), MEETING_SECONDS_MAX)
    except TimeoutError:
        raise LogDamagedError(
            f"{reason}; no other broker that holds the shard was met within {MEETING_SECONDS_MAX:.0f} s: start the others,"
            " or restore this volume"
        ) from None
    finally:
        await links.close()
    folder.save_meta(msgspec.structs.replace(fresh, forgotten=reason))
    return finish_forgetting(folder, fresh)


def finish_forgetting(folder: DataFolder, meta: Meta) -> Meta:
    """Throws the old log away, also where that was cut short before."""
    discard_log(folder.log_disk)
    for name in (MARKER_NAME, DIVERGED_NAME):
        (folder.path / name).unlink(missing_ok=True)
    meta = msgspec.structs.replace(meta, forgotten="")
    folder.save_meta(meta)
    return meta
