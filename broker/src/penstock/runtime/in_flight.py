"""Entries that the log holds and that are not committed yet, in order, as their replica needs them at the commit.

A leader adds what it appends, a follower what it is sent, recovery what the snapshots do not cover. Only a leader has
staged them too: whoever begins to lead stages what is in flight, whoever stops drops it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from penstock.codec.entry import EntryHeader
from penstock.model.commands import Command
from penstock.model.record_batch import (
    NO_PRODUCER_ID,
    PLACE,
    PRODUCER_ID,
    PRODUCER_ID_AT,
    BatchHeader,
    parse_header,
)
from penstock.replication.members import MemberChanged, MembershipCommand, ShardRecovered

if TYPE_CHECKING:
    from penstock.runtime.command_codec import CommandCodec
    from penstock.session.producers import ProducerSessions


class BatchInFlight(msgspec.Struct, gc=False):
    """A record batch of offsets below `end_offset`; `header` only where an idempotent producer wrote it."""

    index: int
    partition: int
    end_offset: int
    header: BatchHeader | None


class CommandInFlight(msgspec.Struct, gc=False):
    """A command."""

    index: int
    command: Command


EntryInFlight = BatchInFlight | CommandInFlight


def batch_in_flight(header: EntryHeader, payload: memoryview) -> tuple[BatchInFlight, int]:
    """(what is kept of a batch entry, its base offset). Only idempotent producers' headers are parsed."""
    base_offset, last_delta, _ = PLACE.unpack_from(payload)
    produced = None
    if PRODUCER_ID.unpack_from(payload, PRODUCER_ID_AT)[0] != NO_PRODUCER_ID:
        produced = parse_header(payload)
    batch = BatchInFlight(header.log_index, header.partition, base_offset + last_delta + 1, produced)
    return batch, base_offset


class InFlight:
    """A queue by log index."""

    def __init__(self) -> None:
        self._entries: deque[EntryInFlight] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: EntryInFlight) -> None:
        """Adds an entry behind all others."""
        self._entries.append(entry)

    def pop_committed(self, commit_index: int) -> Iterator[EntryInFlight]:
        """Takes the entries up to `commit_index`, the oldest first."""
        entries = self._entries
        while entries and entries[0].index <= commit_index:
            yield entries.popleft()

    def truncate(self, from_index: int) -> None:
        """Forgets the entries from there on."""
        entries = self._entries
        while entries and entries[-1].index >= from_index:
            entries.pop()

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()

    def changes(self) -> Iterator[tuple[int, MembershipCommand]]:
        """(index, command) of every change of the members."""
        for entry in self._entries:
            if isinstance(entry, CommandInFlight) and isinstance(
                entry.command, MemberChanged | ShardRecovered
            ):
                yield entry.index, entry.command

    def stage(self, codec: CommandCodec, producers: ProducerSessions) -> None:
        """Makes the effect of everything in flight visible to decisions."""
        for entry in self._entries:
            if isinstance(entry, CommandInFlight):
                codec.machine_of(entry.command).stage(entry.index, entry.command)
            elif entry.header is not None:
                producers.stage_batch(entry.index, entry.partition, entry.header)
