"""What a master wrote that the next one never had: how much it is, partition by partition.

Under `replication: async` a master acknowledges what it alone holds. Who takes over may lack the end of that; the old master
sets it aside when it comes back, before it follows.
"""

from __future__ import annotations

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, parse_entry_header
from penstock.model.record_batch import parse_header


class Offsets(msgspec.Struct, rename="camel"):
    """Of one partition: the first and the last offset that are set aside, and how many messages they are."""

    first: int
    last: int
    messages: int


class ForkedTail(msgspec.Struct, rename="camel"):
    """Entries `first_index` to `last_index` of a log, which were of these epochs: `entries` in all, of which `kept_entries`, from
    `kept_first_index` on, fit into `file` with `kept_bytes`. `partitions` are all, by key, kept or not. Not `exact`: where the
    logs part is not known, and some of this may be in the other one too; then the newest are kept, else the oldest."""

    file: str
    first_index: int
    last_index: int
    epochs: list[int]
    exact: bool
    entries: int = 0
    kept_first_index: int = 0
    kept_entries: int = 0
    kept_bytes: int = 0
    partitions: dict[int, Offsets] = {}

    @property
    def messages(self) -> int:
        """How many messages, over all partitions."""
        return sum(each.messages for each in self.partitions.values())


def count_entries(tail: ForkedTail, data: memoryview) -> None:
    """Counts whole entries, which follow those counted before."""
    position = 0
    while position < len(data):
        header = parse_entry_header(data, position)
        begin, position = position + ENTRY_HEADER_SIZE, position + header.size_bytes
        tail.entries += 1
        if header.kind == KIND_BATCH:
            batch = parse_header(data[begin:position])
            last = batch.base_offset + batch.last_offset_delta
            known = tail.partitions.setdefault(header.partition, Offsets(batch.base_offset, last, 0))
            known.last = last
            known.messages += batch.record_count


def fitting(data: memoryview, bytes_max: int) -> tuple[int, int]:
    """(entries, bytes) of the whole entries at the beginning that fit."""
    entries = position = 0
    while position < len(data):
        end = position + parse_entry_header(data, position).size_bytes
        if end > bytes_max:
            break
        entries, position = entries + 1, end
    return entries, position
