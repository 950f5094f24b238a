"""The groups that this broker coordinates: which are live, which only have positions, and whether it may answer at all.

A group is live while it has members, or members to be; otherwise the log holds all of it and nothing of it is in memory
but the replicated state. The registry is started when this broker becomes its shard's leader and stopped when it no
longer is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from penstock.delivery.machine import QueuesMachine
from penstock.groups.classic import ClassicGroup
from penstock.groups.machine import GroupsMachine
from penstock.groups.settings import GroupSettings
from penstock.groups.states import GroupState
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.groups_driver import GroupDriver
from penstock.service.ports import Clock, CommandLog, Positions
from penstock.service.queue_ports import QUEUE_MODE


class GroupRegistry:
    """Live groups by name, over the replicated state and the ports that all of the group service uses."""

    def __init__(
        self,
        machine: GroupsMachine,
        log: CommandLog,
        clock: Clock,
        positions: Positions,
        settings: GroupSettings,
        queues: QueuesMachine,
        level: Callable[[], int],
    ) -> None:
        self.machine = machine
        self.queues = queues
        """Where groups of mode queue stand."""
        self.level = level
        """The shard's feature level."""
        self.on_queue_changed: Callable[[str], None] = lambda group: None
        """Told of a queue group that was declared, moved or deleted, once that is committed."""
        self.clock = clock
        self.positions = positions
        self.settings = settings
        self.resetting: set[str] = set()
        """Groups whose positions are being moved: nobody may join meanwhile and read the old ones."""
        self.live: dict[str, GroupDriver] = {}
        self._log = log
        # Until `start`, another broker coordinates, or soon this one.
        self._refusal = ErrorCode.NOT_COORDINATOR

    def start(self) -> None:
        """This broker coordinates from now on; the machine holds all that was committed."""
        self._refusal = ErrorCode.NONE
        now_ms = self.clock.monotonic_ms()
        for generation in list(self.machine.generations()):
            if generation.members:
                self._add(ClassicGroup.restored(generation, self.settings, now_ms))

    def stop(self, error: ErrorCode = ErrorCode.NOT_COORDINATOR) -> None:
        """Somebody else coordinates, or nobody: everything parked and everything later is answered `error`."""
        self._refusal = error
        drivers, self.live = list(self.live.values()), {}
        for driver in drivers:
            driver.kill(error)

    def configure(self, settings: GroupSettings) -> None:
        """New settings, for live groups too; times that run already are not changed."""
        self.settings = settings
        for driver in self.live.values():
            driver.group.settings = settings

    def refusal(self, group: str) -> ErrorCode:
        """Why no request for this group is served now, or NONE."""
        if self._refusal is not ErrorCode.NONE:
            return self._refusal
        too_long = len(group.encode()) > self.settings.group_id_bytes_max
        return ErrorCode.INVALID_GROUP_ID if too_long else ErrorCode.NONE

    def check(self, group: str) -> None:
        """Raises what `refusal` says."""
        error = self.refusal(group)
        if error is ErrorCode.INVALID_GROUP_ID:
            raise PenstockError(
                error,
                f"The group id is longer than {self.settings.group_id_bytes_max} bytes: use a shorter one.",
            )
        if error is not ErrorCode.NONE:
            raise PenstockError(
                error, "This broker does not coordinate groups now: ask again, or ask the shard's leader."
            )

    def is_queue(self, group: str) -> bool:
        """Whether the group was declared to lease its messages."""
        declared = self.machine.declared(group)
        return declared is not None and declared.mode == QUEUE_MODE

    def state(self, group: str) -> GroupState:
        """The live state; Empty for one that only has positions, Dead for one that nobody knows."""
        driver = self.live.get(group)
        if driver is not None:
            return driver.group.state
        return GroupState.EMPTY if self.machine.exists(group) else GroupState.DEAD

    def names(self) -> list[str]:
        """Every group, live or not."""
        return list(dict.fromkeys([*self.machine.names(), *self.live]))

    def has_room_for(self, group: str) -> bool:
        """Whether a group is known or may become known."""
        if group in self.live or self.machine.exists(group):
            return True
        return max(self.machine.count, len(self.live)) < self.settings.groups_max

    def open(self, group: str) -> GroupDriver:
        """The live group, made live from the log, or new."""
        driver = self.live.get(group)
        if driver is not None:
            return driver
        generation = self.machine.generation(group)
        if generation is None:
            return self._add(ClassicGroup(group, self.settings))
        return self._add(ClassicGroup.restored(generation, self.settings, self.clock.monotonic_ms()))

    def forget(self, group: str, error: ErrorCode) -> None:
        """Ends a live group; whoever waits in it is answered `error`."""
        driver = self.live.pop(group, None)
        if driver is not None:
            driver.kill(error)

    def propose(self, commands: Sequence[Command]) -> Awaitable[None]:
        """See `CommandLog.propose`."""
        return self._log.propose(commands)

    def _add(self, group: ClassicGroup) -> GroupDriver:
        driver = GroupDriver(group, self._log, self.clock, self._changed)
        self.live[group.name] = driver
        return driver

    def _changed(self, driver: GroupDriver) -> None:
        if driver.group.idle and self.live.get(driver.group.name) is driver:
            del self.live[driver.group.name]
