"""How old the oldest message is that a group has not read yet, from the log's index and never from its messages.

A batch's timestamp stands in the index: in memory for the segment that is written to and for runs that somebody has
loaded. Other runs have to be read, so a scrape loads a bounded number of them and remembers what it found: a position
that does not move is looked up once. Until then the age is not known, and nothing is said.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from penstock.log.errors import LogDamagedError
from penstock.log.reader import load_run
from penstock.partition.partition import MissingRun, Partition, WantedRun
from penstock.runtime.threads import Threads

logger = logging.getLogger(__name__)

RUN_LOADS_MAX: Final = 200
"""Index runs that one scrape reads from disk."""

RUN_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of them; a larger one comes alone."""

Place = tuple[int, int]
"""A partition's key and a committed offset in it: what stands there never changes."""


class _Wanted(NamedTuple):
    place: Place
    run: WantedRun


class UnreadTimestamps:
    """Timestamps by place. A round: `look_up` each, `load` what was missing once, and ask `found` for those; `end` forgets
    what nobody asked for in this round."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        # What had to be loaded, as of the last round and of this one.
        self._known: dict[Place, int] = {}
        self._asked: dict[Place, int] = {}
        self._wanted: dict[Place, WantedRun] = {}
        self._wanted_bytes = 0

    def look_up(self, partition: Partition, offset: int) -> int | None:
        """Milliseconds since 1970, -1 where the batch says none, None where a run has to be loaded first."""
        place = (partition.key, offset)
        known = self._asked.get(place, self._known.get(place))
        if known is not None:
            self._asked[place] = known
            return known
        try:
            return partition.timestamp_at(offset)
        except MissingRun as missing:
            self._want(place, missing.wanted)
            return None

    def _want(self, place: Place, run: WantedRun) -> None:
        size = run.summary.memory_bytes
        full = len(self._wanted) >= RUN_LOADS_MAX or self._wanted_bytes + size > RUN_BYTES_MAX
        if place not in self._wanted and (not full or not self._wanted):
            self._wanted[place] = run
            self._wanted_bytes += size

    async def load(self) -> None:
        """Reads the runs that were missing, as far as the bounds allow, in a thread."""
        wanted = [_Wanted(place, run) for place, run in self._wanted.items()]
        self._wanted.clear()
        self._wanted_bytes = 0
        if wanted:
            self._asked.update(await self._threads.read(lambda: _load(wanted)))

    def found(self, partition: Partition, offset: int) -> int | None:
        """What `load` brought, None where it did not come that far."""
        return self._asked.get((partition.key, offset))

    def end(self) -> None:
        """The round is over."""
        self._known, self._asked = self._asked, {}


def _load(wanted: Sequence[_Wanted]) -> dict[Place, int]:
    """Runs are read one after the other and not kept: those that consumers read stay in their cache."""
    found = {}
    for place, (segment, _, summary) in wanted:
        try:
            run = load_run(segment, summary)
        except (LogDamagedError, OSError) as error:
            # Retention may have been faster, and then the position is behind the log's start.
            if not segment.removed:
                logger.warning("how old unread messages are cannot be told: %s", error)
            continue
        found[place] = run.max_timestamps[run.slot_of(place[1])]
    return found
