"""Acts for one live consumer group: answers parked requests, writes to the log, keeps the one timer.

`ClassicGroup` decides; this file carries out. Everything happens in calls and callbacks on the loop's thread, and none
of them waits between reading the group's state and changing it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from penstock.groups.classic import ClassicGroup
from penstock.groups.requests import Append, Effect, Join, Joined, Leaving, Reply, Sync, Synced
from penstock.groups.states import GroupState
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.ports import Clock, CommandLog, TimerHandle

_log = logging.getLogger(__name__)

# A client knows what to do about its coordinator, not about the coordinator's log.
_FROM_LOG = {
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
}


def coordinator_error(error: PenstockError) -> ErrorCode:
    """What a member is told when the log refuses a write."""
    return _FROM_LOG.get(error.code, error.code)


class GroupDriver:
    """One live group. `on_change` is called after everything that may have made the group idle."""

    def __init__(
        self, group: ClassicGroup, log: CommandLog, clock: Clock, on_change: Callable[[GroupDriver], None]
    ) -> None:
        self.group = group
        self._log = log
        self._clock = clock
        self._on_change = on_change
        self._tokens = 0
        self._joins: dict[int, asyncio.Future[Joined]] = {}
        self._syncs: dict[int, asyncio.Future[Synced]] = {}
        self._writes: set[asyncio.Future[None]] = set()
        self._timer: TimerHandle | None = None
        self._timer_ms = 0
        self._told = group.state
        self._arm()

    def join(self, request: Join) -> asyncio.Future[Joined]:
        """Done when the join is answered, at once or when the next generation begins."""
        self._tokens += 1
        token = self._tokens
        future: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        self._joins[token] = future
        self._run(self.group.join(request, token, self._clock.monotonic_ms()))
        return future

    def sync(self, request: Sync) -> asyncio.Future[Synced]:
        """Done when the member's assignment is in the log, or refused."""
        self._tokens += 1
        token = self._tokens
        future: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        self._syncs[token] = future
        self._run(self.group.sync(request, token, self._clock.monotonic_ms()))
        return future

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """See `ClassicGroup.heartbeat`; the timer stays as it is."""
        return self.group.heartbeat(member_id, instance_id, generation, self._clock.monotonic_ms())

    def check_commit(self, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """See `ClassicGroup.check_commit`."""
        return self.group.check_commit(member_id, instance_id, generation, self._clock.monotonic_ms())

    def leave(self, leaving: Sequence[Leaving]) -> list[ErrorCode]:
        """Removes members; an error for each."""
        errors, effects = self.group.leave(leaving, self._clock.monotonic_ms())
        self._run(effects)
        return errors

    def evict_all(self) -> None:
        """Makes every member join anew."""
        self._run(self.group.evict_all(self._clock.monotonic_ms()))

    def kill(self, error: ErrorCode) -> None:
        """Answers everything parked and ends; outcomes of writes under way no longer matter."""
        effects = self.group.kill(error)
        self._perform(effects)
        self._arm()

    def _run(self, effects: list[Effect]) -> None:
        self._perform(effects)
        self._arm()
        self._tell()
        self._on_change(self)

    def _tell(self) -> None:
        group = self.group
        if group.state is not self._told:
            self._told = group.state
            level = logging.INFO if group.state in (GroupState.STABLE, GroupState.EMPTY) else logging.DEBUG
            _log.log(
                level,
                "group is %s group=%r generation=%d members=%d",
                group.state.value,
                group.name,
                group.generation,
                len(group.roster),
            )

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self._answer(effect)
            else:
                self._append(effect)

    def _answer(self, reply: Reply) -> None:
        # A future is done already when its client went away.
        if isinstance(reply.result, Joined):
            join = self._joins.pop(reply.token)
            if not join.done():
                join.set_result(reply.result)
        else:
            sync = self._syncs.pop(reply.token)
            if not sync.done():
                sync.set_result(reply.result)

    def _append(self, append: Append) -> None:
        command: Command = msgspec.structs.replace(append.command, time_ms=self._clock.now_ms())
        write: asyncio.Future[None]
        try:
            write = asyncio.ensure_future(self._log.propose([command]))
        except PenstockError as error:
            # A refusal at the call is reported like a later one: the group is in the middle of a step.
            write = asyncio.get_running_loop().create_future()
            write.set_exception(error)
        self._writes.add(write)
        write.add_done_callback(lambda done: self._appended(append.ticket, done))

    def _appended(self, ticket: int, write: asyncio.Future[None]) -> None:
        self._writes.discard(write)
        if write.cancelled():
            # The loop is closing; nobody is left to answer.
            return
        failure = write.exception()
        error = ErrorCode.NONE
        if isinstance(failure, PenstockError):
            error = coordinator_error(failure)
        elif failure is not None:
            error = ErrorCode.UNKNOWN_SERVER_ERROR
        self._run(self.group.appended(ticket, error, self._clock.monotonic_ms()))
        if failure is not None and not isinstance(failure, PenstockError):
            raise failure

    def _arm(self) -> None:
        """One timer, never later than the next deadline. It may come too early, because heartbeats only push deadlines
        away; then it is armed anew."""
        deadline_ms = self.group.next_deadline_ms()
        if self._timer is not None:
            if deadline_ms is not None and self._timer_ms <= deadline_ms:
                return
            self._timer.cancel()
            self._timer = None
        if deadline_ms is not None:
            delay_ms = max(deadline_ms - self._clock.monotonic_ms(), 1)
            self._timer_ms = deadline_ms
            self._timer = self._clock.call_later(delay_ms / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._run(self.group.tick(self._clock.monotonic_ms()))
