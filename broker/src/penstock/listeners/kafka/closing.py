"""One log line per connection that the broker ended, and few enough of them.

A peer that comes back ten thousand times with garbage must not fill the disk with our complaints: a window has a
budget of lines, and the first line of the next window says how many were left out.
"""

from __future__ import annotations

import logging

from penstock.listeners.kafka.limits import CLOSE_LINES_MAX, CLOSE_WINDOW_MS

logger = logging.getLogger("penstock.listeners.kafka")


class CloseLog:
    """Writes why connections were closed, at most `CLOSE_LINES_MAX` lines in `CLOSE_WINDOW_MS`."""

    def __init__(self, listener: str) -> None:
        self._listener = listener
        self._window_ends_ms = 0
        self._lines = 0
        self._left_out = 0

    def write(self, peer: str, sentence: str, now_ms: int) -> None:
        """One line, or one more left out."""
        if now_ms >= self._window_ends_ms:
            if self._left_out:
                logger.warning(
                    "listener %s: %d more connections were closed without a line each",
                    self._listener,
                    self._left_out,
                )
            self._window_ends_ms = now_ms + CLOSE_WINDOW_MS
            self._lines = 0
            self._left_out = 0
        if self._lines >= CLOSE_LINES_MAX:
            self._left_out += 1
            return
        self._lines += 1
        logger.warning("listener %s closed the connection of %s: %s", self._listener, peer, sentence)
