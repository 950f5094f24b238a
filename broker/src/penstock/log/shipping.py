"""Entries for other replicas: which bytes they are, where they stand, and reading them in a reader's thread.

Entries are shipped as they stand in the leader's file, whole and back to back. What is in memory is handed out as the
buffers it was written from; older entries are read from the segments and checked one by one: a damaged entry must not
reach another replica.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.log.disk import Buffer


class Shipment:
    """Entries `first_index` to `last_index`, whole, in order, as ranges of files followed by buffers in memory."""

    def __init__(self, first_index: int, last_index: int) -> None:
        self.first_index = first_index
        self.last_index = last_index

    @property
    def in_memory(self) -> bool:
        """Whether `buffers` is all of it, so that nothing has to be read."""
        raise AssertionError

    @property
    def buffers(self) -> Sequence[Buffer]:
        """The entries that are in memory: all of them, or the newest."""
        raise AssertionError

    def read(self) -> list[Buffer]:
        """All entries, in a reader's thread. Raises LogDamagedError with file and position, EntriesGoneError when the
        entries were truncated meanwhile, OSError."""
        raise AssertionError


DigestJob = Callable[[], str]
