"""Commands: the entries of the commit log that change replicated state.

Each command is one immutable struct, tagged with a short stable name and written as msgpack. Fields are only ever
added, with defaults, and never change meaning, because a log may hold commands that an older release wrote. Which
state machine applies a command is decided by the machine's own `commands` tuple; each machine defines its commands
beside itself and all of them subclass `Command`. A command that came with a later feature level says so in
`feature_level` and is appended only when the shard has reached it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import msgspec


class Command(msgspec.Struct, frozen=True, tag_field="k", gc=False):
    """Base of all commands. Subclasses set `tag` to a stable name such as `topic.created`."""

    feature_level: ClassVar[int] = 1


class StateMachine(Protocol):
    """A fold over the log: the same entries in the same order give the same state on every replica.

    `stage` and `apply` run the same transition: `stage` on the leader at append time, into the overlay that decisions
    read; `apply` on every replica when the entry is committed. Neither reads a clock, and a transition never fails:
    what could fail was refused when the command was decided.
    """

    name: str
    version: int
    commands: tuple[type[Command], ...]

    def stage(self, index: int, command: Command) -> None:
        """Makes the effect of an appended, uncommitted command visible to decisions."""
        ...

    def apply(self, index: int, command: Command) -> None:
        """Makes the effect of the committed command at log index `index` part of the state."""
        ...

    def drop_staged(self) -> None:
        """Forgets what was staged and is not committed."""
        ...

    def snapshot(self) -> bytes:
        """The committed state as bytes that `restore` of the same or a later version reads."""
        ...

    def freeze(self) -> Callable[[], bytes]:
        """A function that gives `snapshot` as of now, for another thread and a later time. Freezing copies no values."""
        ...

    def restore(self, data: bytes) -> None:
        """Replaces the state by a snapshot."""
        ...


Commands = Sequence[Command]
