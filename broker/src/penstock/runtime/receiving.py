"""What a follower checks of a leader's entries before its core takes them."""

from __future__ import annotations

from penstock.log.errors import EntriesRefusedError
from penstock.log.receiving import check_entries
from penstock.raft.messages import MessageError, Span


def check_span(span: Span, payload_bytes_max: int) -> None:
    """The entries are what the message says of them: once the core has taken it, they are in its log. Raises MessageError."""
    assert isinstance(span.payload, memoryview)
    try:
        headers = check_entries(span.payload, span.first, 0, payload_bytes_max)
    except EntriesRefusedError as error:
        raise MessageError(str(error)) from error
    runs: list[tuple[int, int]] = []
    for header in headers:
        if not runs or runs[-1][0] != header.epoch:
            runs.append((header.epoch, header.log_index))
    if len(headers) != span.last - span.first + 1 or tuple(runs) != span.epochs:
        raise MessageError("an append's entries are others than it says")
