"""Releasing the Lease of a shard whose holder was seen to end, in the file that local brokers keep it in.

Whoever started a process learns for certain that it ended, which nobody else does: others have to wait until the Lease
runs out. What is written is what a broker writes that gives its Lease up, in favour of anybody that may take over: that
remains for the brokers to decide. The file's format and its lock are those of `penstock.runtime.lease_file`. Whatever is
not as expected is left as it is; then the Lease runs out, as it would without anybody looking.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import Any, Final

import msgspec
from fastcrc.crc32 import iscsi as crc32c

FILE_FORMAT: Final = 1
ANYBODY: Final = "0"
# Field 22 of proc(5)'s stat, counted from behind the name, which may hold anything.
_START_TIME_FIELD: Final = 19


def process_name(pid: int) -> str:
    """By which name a broker's Lease knows its process: `PID:START`, empty where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return f"{pid}:{stat.rpartition(')')[2].split()[_START_TIME_FIELD]}"


def release(path: Path, process: str, reason: str) -> bool:
    """Releases the Lease if that process, which has ended, holds it; whether it did. Raises OSError."""
    if not process or not path.is_file():
        return False
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        # Brokers hold it for microseconds; one that is stopped just there is as good as a Lease that has to run out.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = _held_by(path.read_bytes(), process)
        if content is None:
            return False
        content["fields"] |= {"released": reason, "successor": ANYBODY}
        content["version"] = f"{int(content['version'].partition('-')[0]) + 1}-{uuid.uuid4().hex}"
        content["crc"] = _checksum(content)
        _replace(path, msgspec.json.encode(content))
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _held_by(data: bytes, process: str) -> dict[str, Any] | None:
    """The file's content, if it is whole and its holder is that process and has not released it."""
    try:
        content = msgspec.json.decode(data)
        fields = content["fields"]
        whole = content["format"] == FILE_FORMAT and content["crc"] == _checksum(content)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return None
    if not whole or fields.get("container-id") != process or "released" in fields:
        return None
    found: dict[str, Any] = content
    return found


def _checksum(content: dict[str, Any]) -> int:
    return crc32c(msgspec.json.encode([content["version"], sorted(content["fields"].items())]))


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.supervisor.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
