"""Who waits for an index to be reached: calls back in order, or tells everybody that it will not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from penstock.model.errors import PenstockError

Callback = Callable[[PenstockError | None], None]


class IndexWaiters:
    """`reached` goes up; a callback gets None once its index is reached, or the error that took the hope away."""

    def __init__(self, reached: int) -> None:
        self.reached = reached
        self._waiting: deque[tuple[int, Callback]] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, index: int, callback: Callback) -> None:
        """Calls back once `index` is reached (at once when it is)."""
        if index <= self.reached:
            callback(None)
            return
        # Called in the order in which they came: one for an older entry waits for those before it, a little longer.
        self._waiting.append((index, callback))

    def reach(self, index: int) -> None:
        """Everything up to `index` is there."""
        self.reached = max(self.reached, index)
        waiting = self._waiting
        while waiting and waiting[0][0] <= self.reached:
            waiting.popleft()[1](None)

    def fail(self, error: PenstockError) -> None:
        """Nobody waits any longer."""
        # Taken away first: whoever is called may wait anew, or be called by `reach` itself.
        waiting = list(self._waiting)
        self._waiting.clear()
        for _, callback in waiting:
            callback(error)
