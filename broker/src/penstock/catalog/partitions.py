"""The partitions of one shard: opened, moved forward at their start, dropped. A fold over the shard's own log.

It holds what a partition's batches cannot tell: that it exists although it is empty, and where it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from penstock.model.commands import Command
from penstock.model.snapshots import encode_list
from penstock.model.staged import StagedMap


class PartitionState(msgspec.Struct, frozen=True):
    """One partition as the shard knows it. `log_start` is the first offset that consumers may read."""

    key: int
    topic: str
    number: int
    topic_id: bytes
    epoch_base: int = 0
    log_start: int = 0


# Partitions that one command opens, and start offsets that one command moves: they bound the size of a log entry.
OPENED_PER_COMMAND_MAX = 1_000
STARTS_PER_COMMAND_MAX = 10_000


class PartitionsOpened(Command, frozen=True, tag="partition.opened"):
    """Partitions that this shard keeps from now on."""

    partitions: tuple[PartitionState, ...]


class PartitionsDropped(Command, frozen=True, tag="partition.dropped"):
    """Partitions whose data may go."""

    keys: tuple[int, ...]


class LogStartsMoved(Command, frozen=True, tag="partition.start"):
    """New first offsets by partition key; they only go up."""

    starts: dict[int, int]


def opened(states: Sequence[PartitionState]) -> list[Command]:
    """The commands that open these partitions, of bounded size each."""
    return [
        PartitionsOpened(tuple(states[start : start + OPENED_PER_COMMAND_MAX]))
        for start in range(0, len(states), OPENED_PER_COMMAND_MAX)
    ]


def starts_moved(starts: Mapping[int, int]) -> list[Command]:
    """The commands that move these partitions' starts, of bounded size each."""
    items = list(starts.items())
    return [
        LogStartsMoved(dict(items[start : start + STARTS_PER_COMMAND_MAX]))
        for start in range(0, len(items), STARTS_PER_COMMAND_MAX)
    ]


class Partitions:
    """The shard's partitions; a `StateMachine`."""

    name = "partitions"
    version = 1
    commands: tuple[type[Command], ...] = (PartitionsOpened, PartitionsDropped, LogStartsMoved)

    def __init__(self) -> None:
        self.states: StagedMap[int, PartitionState] = StagedMap()

    def stage(self, index: int, command: Command) -> None:
        """See `StateMachine.stage`."""
        self._transition(index, command, staged=True)

    def apply(self, index: int, command: Command) -> None:
        """See `StateMachine.apply`."""
        self._transition(index, command, staged=False)

    def _transition(self, index: int, command: Command, *, staged: bool) -> None:
        states = self.states.writer(index, staged=staged)
        match command:
            case PartitionsOpened(partitions=partitions):
                for state in partitions:
                    states[state.key] = state
            case PartitionsDropped(keys=keys):
                for key in keys:
                    states.pop(key, None)
            case LogStartsMoved(starts=starts):
                for key, start in starts.items():
                    known = states.get(key)
                    if known is not None and start > known.log_start:
                        states[key] = msgspec.structs.replace(known, log_start=start)
            case _:
                raise TypeError(f"the partitions do not know {type(command).__name__}")

    def drop_staged(self) -> None:
        """See `StateMachine.drop_staged`."""
        self.states.drop_staged()

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return self.freeze()()

    def freeze(self) -> Callable[[], bytes]:
        """See `StateMachine.freeze`."""
        states = list(self.states.committed.values())
        return lambda: bytes(encode_list(states))

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        states = msgspec.msgpack.decode(data, type=list[PartitionState])
        self.states.committed = {state.key: state for state in states}
        self.drop_staged()
