"""Hashes this replica's state where the log says so, off the loop, and compares: `replication.comparing` decides.

Freezing the machines copies no values and takes the loop as long as for a checkpoint; encoding and hashing happen in the
background thread, piece by piece.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from penstock.codec.peer import KIND_STATE, Buffer, PeerFrame, encode_frame
from penstock.model.errors import PenstockError
from penstock.raft.messages import MessageError
from penstock.replication.comparing import (
    HASH_BYTES,
    Comparing,
    ComparingOptions,
    Hashes,
    StateHashed,
    StateReport,
    in_dispute,
)
from penstock.replication.features import STATE_HASHED_LEVEL
from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)


class StateDivergedError(Exception):
    """This replica's state is not the others': it must neither serve nor vote with it. The text is a sentence."""


class Leader(Protocol):
    """Who leads, as far as is known; 0 for nobody."""

    @property
    def leader_member(self) -> int: ...


class Sender(Protocol):
    """The links, as far as reports need them."""

    def send(self, member: int, buffers: Sequence[Buffer]) -> bool: ...


class StateComparison:
    """See the module's text."""

    def __init__(
        self,
        shard: Shard,
        links: Sender,
        leadership: Leader,
        own_member: int,
        clock: Clock,
        options: ComparingOptions,
    ) -> None:
        self._shard = shard
        self._links = links
        self._leadership = leadership
        self._own_member = own_member
        self._clock = clock
        self._comparing = Comparing(options)
        self._appended_index = 0
        # What is under way for a state that was replaced since counts no more.
        self._life = 0
        self._disputed: list[str] = []
        shard.on_state_hashed = self._applied
        shard.on_state_replaced = self._begin_anew

    def tick(self) -> None:
        """Leader: appends the next one when it is time, and when anything may be appended."""
        if not self._shard.leading:
            return
        members = self._shard.machines.members
        voters = members.configuration.voters
        if members.level < STATE_HASHED_LEVEL or len(voters) < 2:
            return
        commit = self._shard.commit_index
        if commit < self._appended_index or not self._comparing.is_due(self._clock.monotonic_ms(), commit):
            return
        try:
            self._appended_index = self._shard.append_commands([self._comparing.next_entry(voters)])
        except PenstockError as error:
            logger.debug("the state is not compared now: %s", error.sentence)

    def _begin_anew(self) -> None:
        self._life += 1
        self._comparing.begin_anew()

    def received(self, member: int, frame: PeerFrame) -> None:
        """A member's report. Raises MessageError."""
        try:
            report = msgspec.msgpack.decode(frame.meta, type=StateReport)
        except msgspec.DecodeError as error:
            raise MessageError(f"a report of the state cannot be read: {error}") from error
        self._reported(member, report)

    def _reported(self, member: int, report: StateReport) -> None:
        members = self._shard.machines.members
        if member not in members.configuration:
            return
        self._comparing.reported(member, report)
        disputed = in_dispute(self._comparing.reports, members.configuration.voters)
        if disputed and disputed != self._disputed:
            self._shard.counters.state_disputes += 1
            logger.error(
                "no majority of the voters has the same state of %s as of entry %d: %s; none can be told to be right",
                ", ".join(disputed),
                report.index,
                self._comparing.reports,
            )
        self._disputed = disputed

    def _applied(self, index: int, verdict: StateHashed) -> None:
        self._comparing.judged(verdict)
        self._stop_if_different()
        if not self._comparing.begin(index, self._clock.monotonic_ms()):
            return
        frozen = [(f"{each.name}/{each.version}", each.freeze()) for each in self._shard.machines.written()]
        hashing = self._shard.threads.background(partial(_hash, frozen))
        hashing.add_done_callback(partial(self._hashed, self._life))

    def _hashed(self, life: int, hashing: asyncio.Future[dict[str, str]]) -> None:
        if hashing.cancelled() or life != self._life:
            return
        report = self._comparing.hashed(hashing.result())
        self._shard.counters.state_hashes += 1
        self._stop_if_different()
        leader = self._leadership.leader_member
        if leader == self._own_member:
            self._reported(leader, report)
        elif leader:
            self._links.send(leader, encode_frame(KIND_STATE, msgspec.msgpack.encode(report)))

    def _stop_if_different(self) -> None:
        found = self._comparing.difference
        if found is not None and not self._shard.failed:
            self._shard.fail(StateDivergedError(found.sentence))


def _hash(frozen: Sequence[tuple[str, Callable[[], bytes]]]) -> dict[str, str]:
    """In a thread."""
    hashes: Hashes = {
        name: hashlib.blake2b(encode(), digest_size=HASH_BYTES).hexdigest() for name, encode in frozen
    }
    return dict(hashes)
