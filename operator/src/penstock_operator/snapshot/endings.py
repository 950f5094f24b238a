"""How the containers of a broker's pod ended, as kubelet tells it.

A broker of mode MasterSlave writes at its start who it will be in its shard's Lease, a UUID that no other start ever has, to
the file whose text kubelet tells when the container has ended. So the first line of that text names the very process that
is gone. Whatever stands behind it, and all of it where it names nobody, is a broker's last words.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

CONTAINER: Final = "broker"
# A broker that was master and is not any more ends its life with this code, to begin the next one as a follower.
EXIT_NOT_MASTER: Final = 6
LAST_WORDS_MAX: Final = 400  # characters of a broker's log that reach a status
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a broker that has ended."""

    holder: str  # who it was in a Lease; empty where it did not say
    exit_code: int | None
    words: str  # the end of what it said last

    @property
    def sentence(self) -> str:
        """A part of a sentence: the exit code, and the last words."""
        return f"exit code {self.exit_code}" + (f": {self.words}" if self.words else "")

    @property
    def is_by_rule(self) -> bool:
        """Whether it ended as a master does whose time is over: that is no crash."""
        return self.exit_code == EXIT_NOT_MASTER


def parse_ended(terminated: dict[str, Any]) -> Ended:
    """From `terminated` of a container's state."""
    message: str = terminated.get("message") or ""
    first, _, rest = message.partition("\n")
    holder = first.strip() if _UUID.fullmatch(first.strip()) else ""
    words = " ".join((rest if holder else message).split())[-LAST_WORDS_MAX:]
    return Ended(holder=holder, exit_code=terminated.get("exitCode"), words=words)


def endings(pod: dict[str, Any]) -> list[Ended]:
    """The broker's containers of this pod that are known to have ended; there may be another one running."""
    found = []
    for container in pod.get("status", {}).get("containerStatuses") or []:
        if container.get("name") != CONTAINER:
            continue
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if state.get("terminated"):
                found.append(parse_ended(state["terminated"]))
    return found
