"""A real file system of a few MiB, for tests that fill a disk: nothing that simulates one refuses quite as a kernel does.

Root gets an ext4 image on a loop mount. Anybody else gets a tmpfs in a user and mount namespace of its own, which only
commands with the disk's `prefix` see under its path; a process that keeps the namespace alive ends with the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_TIMEOUT_S = 30.0
# Where mkfs and losetup are, also for users whose PATH does not say so.
_SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# Sizes in which a disk is filled up to the last byte: large ones for speed, single bytes for the rest of a block.
_FILLING_BYTES = (1 << 16, 1 << 10, 1)


class SmallDiskError(Exception):
    """No small file system can be made here; the text says what was tried and what is missing."""


class SmallDisk(NamedTuple):
    """`path` is the mount as a command with `prefix` before it sees it, `seen` the same folder for this process."""

    path: Path
    seen: Path
    prefix: tuple[str, ...] = ()

    def fill(self, name: str = "somebody-else") -> int:
        """Takes every byte that is left with a file called `name`; returns how many."""
        with (self.seen / name).open("wb", buffering=0) as file:
            for size in _FILLING_BYTES:
                while _write(file.fileno(), bytes(size)):
                    pass
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size


def _write(descriptor: int, data: bytes) -> int:
    try:
        return os.write(descriptor, data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return 0


@contextmanager
def small_disk(mount: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A disk of that size, mounted on the new folder `mount`. Everybody who uses it must have ended when it is left.

    Raises SmallDiskError with a sentence where neither kind can be made."""
    refusals = []
    with ExitStack() as stack:
        for make in (loop_disk, namespace_disk):
            try:
                disk = stack.enter_context(make(mount, size_bytes))
            except SmallDiskError as refusal:
                refusals.append(str(refusal))
                continue
            yield disk
            return
    raise SmallDiskError(
        f"a test that fills a disk needs a small file system: {'; '.join(refusals)}."
        " Run it as root, or allow unprivileged user namespaces"
    )


@contextmanager
def loop_disk(mount: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """An ext4 image on a loop mount. Raises SmallDiskError where that is not allowed."""
    image = mount.with_suffix(".ext4")
    mount.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(size_bytes)
        # No blocks that only root may use: the disk is full when it is full.
        _run("mkfs.ext4", "-q", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(mount))
        try:
            yield SmallDisk(mount, mount)
        finally:
            _run("umount", str(mount))
    finally:
        image.unlink(missing_ok=True)
        mount.rmdir()


@contextmanager
def namespace_disk(mount: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A tmpfs that only its own namespace sees. Raises SmallDiskError where that is not allowed."""
    script = f'mount -t tmpfs -o size={size_bytes} tmpfs "$1" && echo mounted && read -r _'
    arguments = ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(mount)]
    command, enter = [_program("unshare"), *arguments], _program("nsenter")
    mount.mkdir()
    keeper = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    try:
        if keeper.stdout.readline() != "mounted\n":
            raise SmallDiskError(f"no tmpfs in a user namespace ({keeper.stderr.read().strip()})")
        prefix = (enter, "--target", str(keeper.pid), "--user", "--mount", "--preserve-credentials")
        yield SmallDisk(mount, Path(f"/proc/{keeper.pid}/root{mount}"), prefix)
    finally:
        # The end of its input ends the keeper, and the disk with it.
        keeper.communicate(timeout=COMMAND_TIMEOUT_S)
        mount.rmdir()


def _program(name: str) -> str:
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise SmallDiskError(f"the program {name} is missing")
    return found


def _run(name: str, *arguments: str) -> None:
    command = [_program(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SmallDiskError(f"no loop mount ({(done.stderr or done.stdout).strip()})")
