"""A leader's entries, checked before any of them is appended.

They come as they stand in the leader's file. All but each replica's own note of what is durable is under the checksum,
so an entry that passes is the entry that the leader wrote.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NoReturn

from penstock.base.crc import crc32c
from penstock.codec.entry import (
    COVERED_FROM,
    ENTRY_HEADER,
    ENTRY_HEADER_SIZE,
    ENTRY_VERSION,
    KIND_BATCH,
    KINDS,
    EntryHeader,
)
from penstock.log.errors import EntriesRefusedError
from penstock.model.record_batch import HEADER_SIZE

# The note in an entry's header: how many entries up to it were not known to be durable.
UNDURABLE = struct.Struct("<I")
UNDURABLE_AT = 4


def check_entries(view: memoryview, next_index: int, epoch: int, payload_bytes_max: int) -> list[EntryHeader]:
    """The headers of whole entries that stand back to back. They have to begin with `next_index`, follow an entry of
    `epoch`, and fit a segment. Raises EntriesRefusedError."""
    headers: list[EntryHeader] = []
    position, size = 0, len(view)
    unpack, make = ENTRY_HEADER.unpack_from, EntryHeader._make
    while position < size:
        if size - position < ENTRY_HEADER_SIZE:
            _refuse(position, f"{size - position} bytes are left, less than an entry's header")
        header = make(unpack(view, position))
        crc, _, length, log_index, entry_epoch, kind, version, _, _ = header
        end = position + ENTRY_HEADER_SIZE + length
        if end > size:
            _refuse(
                position, f"the entry there has {length} bytes of payload, {size - end + length} have come"
            )
        if crc32c(view[position + COVERED_FROM : end]) != crc:
            _refuse(position, "the entry there does not match its checksum")
        if log_index != next_index:
            _refuse(position, f"the entry there is {log_index}, the log goes on with {next_index}")
        if entry_epoch < epoch:
            _refuse(position, f"entry {log_index} is of epoch {entry_epoch}, the one before of epoch {epoch}")
        if kind not in KINDS or version > ENTRY_VERSION:
            _refuse(
                position,
                f"entry {log_index} is of kind {kind}, version {version}, which this release does not know:"
                " upgrade Penstock",
            )
        if kind == KIND_BATCH and length < HEADER_SIZE:
            _refuse(position, f"entry {log_index} holds a batch shorter than its header")
        if length > payload_bytes_max:
            _refuse(
                position,
                f"entry {log_index} has {length} bytes, a segment of this log holds {payload_bytes_max}:"
                " give all brokers of the shard the same log.segment.bytes and volumes of the same size",
            )
        headers.append(header)
        epoch = entry_epoch
        next_index += 1
        position = end
    return headers


def check_place(headers: Sequence[EntryHeader], next_index: int, epoch: int) -> None:
    """Entries that `check_entries` passed before may be appended behind an entry of `epoch`, `next_index` being the next.
    Raises EntriesRefusedError."""
    if not headers:
        return
    if headers[0].log_index != next_index:
        _refuse(0, f"the entry there is {headers[0].log_index}, the log goes on with {next_index}")
    if headers[0].epoch < epoch:
        _refuse(0, f"entry {next_index} is of epoch {headers[0].epoch}, the one before of epoch {epoch}")


def _refuse(position: int, why: str) -> NoReturn:
    raise EntriesRefusedError(f"what the leader sent cannot be appended: at its byte {position}, {why}")
