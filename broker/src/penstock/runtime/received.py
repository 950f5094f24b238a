"""A leader's entries on their way from the wire into the log: checked once, when they come.

From then on they travel with their headers, so that neither their checksums nor their places are looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_COMMAND, EntryHeader
from penstock.log.errors import EntriesRefusedError
from penstock.log.receiving import check_entries
from penstock.raft.messages import MessageError, Span
from penstock.raft.ready import Piece
from penstock.replication.members import changes_members


class ReceivedEntries(NamedTuple):
    """Whole entries, back to back, and the header of each."""

    data: memoryview
    headers: list[EntryHeader]


def check_span(span: Span, data: memoryview, payload_bytes_max: int) -> Span:
    """The span with its entries, which are what the message says of them: once the core has taken it, they are in its log.
    Which of them change the members is looked up in them: a leader that was started again does not know that of entries that its
    checkpoint covers. Raises MessageError."""
    try:
        headers = check_entries(data, span.first, 0, payload_bytes_max)
    except EntriesRefusedError as error:
        raise MessageError(str(error)) from error
    runs: list[tuple[int, int]] = []
    epoch = -1
    for header in headers:
        if header.epoch != epoch:
            epoch = header.epoch
            runs.append((epoch, header.log_index))
    if len(headers) != span.last - span.first + 1 or tuple(runs) != span.epochs:
        raise MessageError("an append's entries are others than it says")
    changes = tuple(_changes(data, headers))
    return msgspec.structs.replace(span, changes=changes, payload=ReceivedEntries(data, headers))


def _changes(data: memoryview, headers: list[EntryHeader]) -> Iterator[int]:
    position = 0
    for header in headers:
        end = position + header.size_bytes
        if header.kind == KIND_COMMAND and changes_members(data[position + ENTRY_HEADER_SIZE : end]):
            yield header.log_index
        position = end


def entries_of(piece: Piece, first: int) -> ReceivedEntries:
    """The piece's entries from `first` on; its span may hold more on either side."""
    received = piece.span.payload
    assert isinstance(received, ReceivedEntries)
    data, headers = received
    begin, end = first - piece.span.first, piece.last - piece.span.first + 1
    if begin == 0 and end == len(headers):
        return received
    start = sum(header.size_bytes for header in headers[:begin])
    wanted = headers[begin:end]
    return ReceivedEntries(data[start : start + sum(header.size_bytes for header in wanted)], wanted)
