"""An asyncio loop in virtual time, one for each process that is simulated.

A turn runs what is ready, as a real loop's does; timers and turns stand on the common agenda. A process can be paused
(no turns) and killed (no turns ever again), and it has simulated sockets.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVarTuple

from penstock.testing.simulated_cluster.agenda import Agenda, Planned

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.network import SimulatedServer, Socket

_Ts = TypeVarTuple("_Ts")

# How long after something became ready the next turn begins, at most.
TURN_SECONDS_MAX = 0.0003
# Turns that a killed process's tasks may take to end.
LAST_TURNS_MAX = 50


class Sockets(Protocol):
    """The network, as one process sees it."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str
    ) -> tuple[Socket, asyncio.Protocol]: ...

    def listen(self, factory: Callable[[], asyncio.Protocol]) -> SimulatedServer: ...


class _Handle(asyncio.TimerHandle):
    """Something that is ready, or will be, without what asyncio's keeps for debugging: a life makes tens of thousands."""

    __slots__ = ("_arguments", "_call", "_own_context", "planned")

    def __init__(
        self, call: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._call: Callable[..., object] | None = call
        self._arguments = arguments
        self._own_context = context if context is not None else contextvars.copy_context()
        # On the agenda, where it has to wait for its time.
        self.planned: Planned | None = None

    def when(self) -> float:
        """See asyncio."""
        assert self.planned is not None
        return self.planned.when

    def cancel(self) -> None:
        """See asyncio."""
        self._call = None
        self._arguments = ()
        if self.planned is not None:
            self.planned.cancel()

    def cancelled(self) -> bool:
        """See asyncio."""
        return self._call is None

    def run(self, on_error: Callable[[BaseException], None]) -> None:
        """Calls it, unless it was called off."""
        if self._call is None:
            return
        try:
            self._own_context.run(self._call, *self._arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as asyncio's loops do
            on_error(error)


class VirtualLoop(asyncio.AbstractEventLoop):
    """`on_error` is told what asyncio would have logged, `on_turn` after every turn."""

    def __init__(
        self,
        agenda: Agenda,
        chance: random.Random,
        *,
        on_error: Callable[[BaseException], None],
        on_turn: Callable[[], None] = lambda: None,
        sockets: Sockets | None = None,
    ) -> None:
        self.agenda = agenda
        self.dead = False
        # Whether one of its turns is under way.
        self.in_turn = False
        self._chance = chance
        self._on_error = on_error
        self._on_turn = on_turn
        self._sockets = sockets
        self._ready: deque[_Handle] = deque()
        self._turn_planned = False
        self._paused_until = 0.0
        # In order, so that what ends at a kill ends in the same order every time.
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # --- life ------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """This is the running loop meanwhile."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def pause(self, seconds: float) -> None:
        """No turn for so long."""
        self._paused_until = max(self._paused_until, self.agenda.now + seconds)

    @property
    def paused_until(self) -> float:
        """When it goes on; in the past when it does."""
        return self._paused_until

    def kill(self) -> None:
        """Nothing runs any more. Tasks are ended so that none is left to Python's collector; nobody may listen to what
        they still do."""
        self.dead = True
        with self.running():
            for task in list(self._tasks):
                task.cancel()
            for _ in range(LAST_TURNS_MAX):
                ready, self._ready = self._ready, deque()
                for handle in ready:
                    handle.run(self._raised)
        self._ready.clear()

    def _plan_turn(self) -> None:
        if not self._turn_planned and not self.dead:
            self._turn_planned = True
            self.agenda.after(self._chance.random() * TURN_SECONDS_MAX, self._turn)

    def _turn(self) -> None:
        if self.dead:
            return
        if self._paused_until > self.agenda.now:
            self.agenda.at(self._paused_until, self._turn)
            return
        self._turn_planned = False
        ready, self._ready = self._ready, deque()
        self.in_turn = True
        before = events._get_running_loop()
        events._set_running_loop(self)
        while ready and not self.dead:
            ready.popleft().run(self._raised)
        events._set_running_loop(before)
        self.in_turn = False
        if self.dead:
            # For `kill`, which lets tasks end that have not even begun.
            self._ready.extendleft(reversed(ready))
        else:
            self._on_turn()

    # --- asyncio ---------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self.agenda.now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = _Handle(callback, args, context)
        self._ready.append(handle)
        if not self._turn_planned:
            self._plan_turn()
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """The same: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.agenda.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        timer = _Handle(callback, args, context)
        timer.planned = self.agenda.at(when, self._timer_due, timer)
        return timer

    def _timer_due(self, timer: _Handle) -> None:
        if not self.dead:
            self._ready.append(timer)
            self._plan_turn()

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        """See asyncio."""
        task = asyncio.Task(coro, loop=self, **options)
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody caught."""
        self._raised(context.get("exception") or RuntimeError(context["message"]))

    def _raised(self, error: BaseException) -> None:
        if not self.dead:
            self._on_error(error)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as far as anybody inside can see."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    # --- sockets ---------------------------------------------------------------------------------

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        """See asyncio."""
        assert self._sockets is not None
        return await self._sockets.connect(factory, host)

    async def create_server(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        """See asyncio."""
        assert self._sockets is not None
        return self._sockets.listen(factory)
