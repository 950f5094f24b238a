"""What the core has decided about the log and the driver was not told yet.

Within one turn of the driver several messages may append, cut and append again, so what the next Ready says is kept as
its final result: where to cut what was handed out before, and which pieces of which spans to write behind it.
"""

from __future__ import annotations

from penstock.raft.messages import Snapshot, Span
from penstock.raft.ready import Generation, Piece


class Unwritten:
    """The pieces are neighbours, the last one ends with the log. See `Ready` for what the fields mean."""

    __slots__ = ("generation", "pieces", "snapshot", "truncate_from")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.truncate_from: int | None = None
        self.snapshot: Snapshot | None = None
        self.generation = Generation(0)

    def add(self, span: Span, first: int) -> None:
        """The span's entries from `first` on go behind what is there."""
        self.pieces.append(Piece(span, first, span.last))

    def told_last(self, last: int) -> int:
        """Where the driver's log ends, when the core's ends with `last`."""
        return self.pieces[0].first - 1 if self.pieces else last

    def truncate(self, index: int) -> bool:
        """Everything from `index` on goes. Gives whether that concerns what the driver was told before."""
        pieces = self.pieces
        if pieces and index >= pieces[0].first:
            while pieces and pieces[-1].first >= index:
                pieces.pop()
            if pieces:
                pieces[-1] = Piece(pieces[-1].span, pieces[-1].first, min(pieces[-1].last, index - 1))
            return False
        pieces.clear()
        self.truncate_from = index
        self.generation = Generation(self.generation + 1)
        return True

    def replace(self, snapshot: Snapshot) -> None:
        """The snapshot takes the place of the whole log."""
        self.pieces = []
        self.truncate_from = None
        self.snapshot = snapshot
        self.generation = Generation(self.generation + 1)

    def handed_out(self) -> None:
        """The driver was told."""
        self.pieces = []
        self.truncate_from = None
        self.snapshot = None
