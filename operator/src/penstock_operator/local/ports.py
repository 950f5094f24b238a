"""Ports on this machine: those of the spec for the first broker, fixed distances from them for the others.

A port that somebody else has is replaced by any free one, and that is said.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

LOCAL_HOST: Final = "127.0.0.1"
PORT_STEP: Final = 10  # broker 1 listens ten ports above broker 0, broker 2 twenty: 9092, 9102, 9112
PORT_MAX: Final = 65535


class Ports:
    """The ports of one cluster's brokers; once chosen, a port stays while the spec's does."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._chosen: dict[tuple[int, str], tuple[int, int]] = {}  # (ordinal, listener) -> (wanted, used)

    def choose(self, ordinal: int, listener: str, port: int, remembered: int | None = None) -> int:
        """The port for a listener of a broker; `remembered` is the one of an earlier run, to be kept if possible."""
        wanted = port + ordinal * PORT_STEP
        known = self._chosen.get((ordinal, listener))
        if known is not None and known[0] == wanted:
            return known[1]
        used = next((choice for choice in (remembered, wanted) if self._is_free(choice)), None)
        if used is None:
            used = self._any_free()
            self._say(f"port {wanted} of listener {listener} is taken, {used} is used instead")
        self._chosen[ordinal, listener] = (wanted, used)
        return used

    def _is_free(self, port: int | None) -> bool:
        if port is None or port > PORT_MAX or any(port == used for _, used in self._chosen.values()):
            return False
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCAL_HOST, port))
            except OSError:
                return False
        return True

    def _any_free(self) -> int:
        with socket.socket() as probe:
            probe.bind((LOCAL_HOST, 0))
            port: int = probe.getsockname()[1]
        return port
