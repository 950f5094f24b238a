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
from typing import TYPE_CHECKING, Any, Protocol

from penstock.testing.simulated_cluster.agenda import Agenda

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.network import SimulatedServer, Socket

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
        self._ready: deque[asyncio.Handle] = deque()
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
                    if not handle.cancelled():
                        handle._run()
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
        with self.running():
            while ready and not self.dead:
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
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

    def call_soon(  # type: ignore[override]  # typeshed's is generic in the arguments
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._plan_turn()
        return handle

    def call_soon_threadsafe(  # type: ignore[override]  # typeshed's is generic in the arguments
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """The same: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]  # typeshed's is generic in the arguments
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # typeshed's is generic in the arguments
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.agenda.at(when, self._timer_due, timer)
        return timer

    def _timer_due(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled() and not self.dead:
            self._ready.append(timer)
            self._plan_turn()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

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
        if not self.dead:
            self._on_error(context.get("exception") or RuntimeError(context["message"]))

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
