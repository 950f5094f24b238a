"""One member of a shard whose Lease a test writes and answers by hand."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from penstock.replication.master_contender import Election
from penstock.replication.master_election import MasterElection, Phase
from penstock.replication.master_lease import (
    Conflict,
    HolderIdentity,
    LeaseRecord,
    Observation,
    Release,
    Unknown,
    WriteOutcome,
)
from penstock.replication.master_outputs import Create, Output, PersistEpoch, Read, Write
from penstock.replication.master_timing import lease_timing
from penstock.replication.takeover import FailoverPolicy
from penstock.testing.memory_lease import MemoryLease

SHARD = "5f2a7c1e-0000-4000-8000-000000000001"
ME, OTHER, THIRD = 11, 22, 33
BEGAN = 1_000_000
TIMING = lease_timing()
SYNC = FailoverPolicy()
STOPS_MS = TIMING.duration_ms - TIMING.stop_margin_ms
BOTH, ALONE = frozenset({ME, OTHER}), frozenset({ME})
ENDED = Release("its container ended")

T = TypeVar("T")


def identity(member: int) -> HolderIdentity:
    return HolderIdentity(
        member=member,
        ordinal=member // 11 - 1,
        pod_name=f"orders-0-{member // 11 - 1}",
        pod_uid=f"uid-{member}",
    )


def record(
    holder: int = OTHER,
    *,
    epoch: int = 4,
    in_sync: tuple[int, ...] = (ME, OTHER),
    pending: tuple[int, ...] | None = None,
    version: str = "7",
    released: Release | None = None,
    log_end: int = 100,
    renewed_at_us: int = 0,
) -> LeaseRecord:
    """As another process left it."""
    return LeaseRecord(
        shard_uid=SHARD,
        holder=f"start-of-{holder}",
        identity=identity(holder),
        epoch=epoch,
        in_sync=frozenset(in_sync),
        pending=None if pending is None else frozenset(pending),
        duration_ms=6000,
        log_end=log_end,
        renewals=3,
        attempt=9,
        transitions=2,
        released=released,
        renewed_at_us=renewed_at_us,
        version=version,
    )


class Member:
    """`now` is its clock. What it asks of the store waits in `asked` until the test lets it happen."""

    def __init__(
        self,
        lease: LeaseRecord | None = None,
        *,
        policy: FailoverPolicy = SYNC,
        epoch: int = 3,
        log_end: int = 100,
        jitter_ms: int = 0,
    ) -> None:
        self.now = BEGAN
        self.store = MemoryLease()
        if lease is not None:
            self.store.record = lease
            self.store._version = 7
        self.election = MasterElection(
            Election(
                holder="start-of-me",
                identity=identity(ME),
                shard_uid=SHARD,
                policy=policy,
                timing=TIMING,
            ),
            epoch,
            log_end,
            lambda: jitter_ms,
            self.now,
        )
        self.outputs: list[Output] = []
        self.asked: Read | Create | Write | None = None

    def drain(self) -> None:
        for output in self.election.take():
            if isinstance(output, Read | Create | Write):
                assert self.asked is None, "one exchange at a time"
                self.asked = output
            self.outputs.append(output)

    def said(self, kind: type[T]) -> list[T]:
        """All outputs of this kind so far."""
        return [output for output in self.outputs if isinstance(output, kind)]

    def last(self, kind: type[T]) -> T:
        return self.said(kind)[-1]

    # --- answers ---------------------------------------------------------------------------------

    def take_asked(self) -> Read | Create | Write:
        assert self.asked is not None
        asked, self.asked = self.asked, None
        return asked

    def happens(self, asked: Read | Create | Write) -> Observation | WriteOutcome:
        """The store does it."""
        match asked:
            case Read():
                return self.store.read_now()
            case Create():
                return self.store.create_now(asked.record)
            case Write():
                return self.store.swap_now(asked.record, asked.if_version)

    def tell(self, asked: Read | Create | Write, answer: Observation | WriteOutcome) -> None:
        if isinstance(asked, Read):
            self.election.observed(answer, self.now)  # type: ignore[arg-type]
        else:
            self.election.written(asked.request_id, answer, self.now)  # type: ignore[arg-type]
        self.drain()

    def answer(self) -> None:
        """What was asked happens, and the answer comes at once."""
        asked = self.take_asked()
        self.tell(asked, self.happens(asked))

    def lose(self, *, effective: bool) -> None:
        """The answer of a write is lost, after it took effect or before."""
        asked = self.take_asked()
        assert not isinstance(asked, Read)
        if effective:
            self.happens(asked)
        self.tell(asked, Unknown("timed out"))

    def conflict(self) -> None:
        self.tell(self.take_asked(), Conflict())

    # --- time ------------------------------------------------------------------------------------

    def tick(self, later_ms: int = 0) -> None:
        self.now += later_ms
        self.election.tick(self.now)
        self.drain()

    def pass_time(self, ms: int, *, log_works: bool = True) -> None:
        """Everything asked for is answered at once, in steps of 100 ms."""
        end = self.now + ms
        step_ms = 0
        while True:
            self.tick(step_ms)
            while self.asked is not None:
                self.answer()
            if log_works:
                self.election.log_progress(self.now)
            if self.now >= end:
                return
            step_ms = min(100, end - self.now)

    def other_writes(self, **changes: object) -> None:
        """Somebody else changes the Lease."""
        assert self.store.record is not None
        changed = msgspec.structs.replace(self.store.record, **changes)  # type: ignore[arg-type]
        self.store.swap_now(changed, self.store.record.version)

    def taken_by(self, holder: int) -> None:
        """Another member acquires the Lease."""
        assert self.store.record is not None
        self.store.swap_now(record(holder, epoch=self.store.record.epoch + 1), self.store.record.version)


def master(
    policy: FailoverPolicy = SYNC, in_sync: tuple[int, ...] = (ME, OTHER), log_end: int = 100
) -> Member:
    """A member that took over from OTHER in epoch 5, with nothing under way."""
    free = record(in_sync=in_sync, released=Release("its container ended"))
    member = Member(free, policy=policy, log_end=log_end)
    member.tick()
    member.answer()
    member.answer()
    assert member.last(PersistEpoch).epoch == 5
    member.election.epoch_stored(5, member.now)
    member.drain()
    assert member.election.phase is Phase.MASTER
    assert member.asked is None
    return member
