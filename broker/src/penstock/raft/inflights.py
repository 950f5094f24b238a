"""What was sent to one follower and is not answered: a window, bounded in messages and in bytes."""

from __future__ import annotations

from collections import deque


class Inflights:
    """Messages are known by the last index in them, which rises.

    The message that crosses `bytes_max` is still let through, so that a single large one cannot stall for ever.
    """

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_window")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._window: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._count_max = count_max
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        """Messages on their way."""
        return len(self._window)

    @property
    def size_bytes(self) -> int:
        """Bytes on their way."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent."""
        return len(self._window) >= self._count_max or self._bytes >= self._bytes_max

    def add(self, last_index: int, size_bytes: int) -> None:
        """A message that ends with `last_index` leaves. Only while not `full`."""
        assert not self.full
        self._window.append((last_index, size_bytes))
        self._bytes += size_bytes

    def free_up_to(self, index: int) -> None:
        """The follower holds everything up to `index`."""
        window = self._window
        while window and window[0][0] <= index:
            self._bytes -= window.popleft()[1]

    def clear(self) -> None:
        """Nothing is on its way."""
        self._window.clear()
        self._bytes = 0
