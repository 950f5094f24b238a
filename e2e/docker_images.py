"""The docker command, for images: run it, and forget the images of earlier runs."""

from __future__ import annotations

import subprocess

BUILD_SECONDS_MAX = 600


def docker(*arguments: str) -> str:
    """Runs docker; returns what it printed. Raises RuntimeError with its words."""
    return run("docker", *arguments)


def run(*command: str) -> str:
    """Runs a command; returns what it printed. Raises RuntimeError with its words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS_MAX)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def forget_other_tags(image: str) -> None:
    """Removes the tags of earlier contents of `image` (`name:prefix-digest` or `name:digest`); layers in use stay."""
    name, _, tag = image.partition(":")
    prefix = tag.rpartition("-")[0]
    for other in docker("images", name, "--format", "{{.Tag}}").splitlines():
        if other not in (tag, "<none>") and other.startswith(prefix) and len(other) == len(tag):
            # One that a container still uses cannot be removed; the next run tries again.
            subprocess.run(["docker", "rmi", f"{name}:{other}"], capture_output=True, check=False)
