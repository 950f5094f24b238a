"""Messages that may leave only when what they rest on is on disk: kept in order, and given out as the disk answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from penstock.raft.messages import PeerMessage


class _Held(msgspec.Struct):
    """Messages that leave when the log is stored up to `last_index` and `hard_states` hard states are on disk."""

    last_index: int
    hard_states: int
    messages: Sequence[PeerMessage]


class HeldBack:
    """See the module's text. `replacing`: other entries are to stand where some still do, or a snapshot where the log is, so what
    the disk holds says nothing yet about those that messages speak of."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()
        self.replacing = False

    def hold(self, last_index: int, hard_states: int, messages: Sequence[PeerMessage]) -> None:
        """They wait for that much, and for those before them."""
        self._held.append(_Held(last_index, hard_states, messages))

    def due(self, stored_index: int, hard_states: int) -> Iterator[Sequence[PeerMessage]]:
        """What the disk has caught up with."""
        while self._held and not self.replacing:
            first = self._held[0]
            if first.hard_states > hard_states or first.last_index > stored_index:
                return
            self._held.popleft()
            yield first.messages

    def begin_anew(self) -> None:
        """What waits speaks of entries that are about to go. To a peer it is as if the messages were lost."""
        self._held.clear()
        self.replacing = True

    def replaced(self) -> None:
        """They are gone."""
        self.replacing = False
