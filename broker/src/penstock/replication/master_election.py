"""Who is master of a shard in mode MasterSlave: one member's part in the election by Lease, as decisions.

No input and no output here is a socket, a file or a clock: the driver reads and writes the Lease, persists the epoch, and
calls the methods with the time, in milliseconds of a clock that goes on while the machine is suspended and counts from
anywhere. After each call it takes the outputs and does them in order. The phases:

    FOLLOWING -> CLAIMED       the Lease was free, this member was entitled, and its claim is in the Lease
    CLAIMED   -> MASTER        the claim's epoch is on this member's disk, and the Lease is known to be valid
    CLAIMED, MASTER -> RELEASING
                               leadership is handed over, or this process ends in order: nothing is acknowledged any more,
                               the Lease is yet to say so
    any       -> OVER          the process ends this life; the next one has another holder UUID and begins as FOLLOWING

Only MASTER acknowledges, and only while `may_acknowledge`: from a renewal it is valid for the Lease's duration, counted from
when it sent it, less the margin. Whoever else looks counts the same duration from when it saw that renewal, which is later.
A process that stood still has to ask `may_acknowledge` again before it answers anything.

A write without an answer is neither a success nor a failure: the Lease is read back, and what it says then counts. Each
write has a number of its own, so that a renewal that is found there is valid from when that very one was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from penstock.replication.master_attempts import NOTHING, Attempt
from penstock.replication.master_contender import Contender, Election
from penstock.replication.master_lease import (
    LeaseRecord,
    Observation,
    Release,
    Stored,
    WriteOutcome,
)
from penstock.replication.master_outputs import (
    BecomeMaster,
    Create,
    Exit,
    MayHaveLost,
    Output,
    PersistEpoch,
    ProbeLog,
    Read,
    StopAcknowledging,
    Waiting,
    Write,
)
from penstock.replication.master_tenure import Tenure
from penstock.replication.master_timing import CLOSELY_MS
from penstock.replication.master_view import MasterView
from penstock.replication.takeover import Wait

# In place of a write's number, which are above it.
READING = 0


class Phase(StrEnum):
    """See the module for who may follow whom."""

    FOLLOWING = "following"
    CLAIMED = "claimed"
    MASTER = "master"
    RELEASING = "releasing"
    OVER = "over"


# They renew, and need a log that works.
HOLDING = (Phase.CLAIMED, Phase.MASTER)


class MasterElection:
    """`epoch` is the highest that the member has persisted or finds in its log, 0 for one that has never been in a shard;
    `log_end` its log's last entry; `jitter` gives milliseconds to wait beyond the duration."""

    def __init__(
        self, election: Election, epoch: int, log_end: int, jitter: Callable[[], int], now: int
    ) -> None:
        self.phase = Phase.FOLLOWING
        self._election = election
        self._timing = election.timing
        self._contender = Contender(election, epoch, log_end)
        self._view = MasterView(jitter)
        self._tenure: Tenure | None = None
        self._outputs: list[Output] = []
        # One exchange with the store at a time: a write's number, READING, or None for nothing under way.
        self._busy: int | None = None
        self._attempt = READING
        self._next_ms = now
        self._write_not_before_ms = now
        # What this member knows of the Lease may be outdated by its own write, or by what it was told meanwhile.
        self._in_doubt = False
        self._look_again = False
        self._closely_until_ms = now
        self._waiting: Waiting | None = None
        # The process is to end: nothing is claimed any more, and given up what is held.
        self._resigning = False

    # --- questions -------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The highest epoch that this member has met; a master's own."""
        return self._contender.epoch

    @property
    def record(self) -> LeaseRecord | None:
        """The Lease as it was last known, for status."""
        return self._view.record

    @property
    def waiting(self) -> Waiting | None:
        """Why this member does not lead, None once it holds the Lease or never will."""
        return self._waiting if self.phase is Phase.FOLLOWING else None

    def may_acknowledge(self, now: int) -> bool:
        """Whether this member is master beyond doubt, at this moment."""
        return self.phase is Phase.MASTER and self._tenure is not None and now < self._tenure.stops_ms

    def next_tick_ms(self) -> int | None:
        """When to call `tick` next, at the latest; None while only an answer can change anything, or nothing any more."""
        if self.phase is Phase.OVER:
            return None
        due = [self._next_ms] if self._busy is None else []
        tenure = self._tenure
        if self.phase is Phase.MASTER and tenure is not None:
            due.append(tenure.stops_ms)
        if self.phase in HOLDING and tenure is not None and tenure.probe_ms is not None:
            due.append(tenure.probe_ms)
        if self.phase is Phase.RELEASING and tenure is not None:
            due.append(tenure.expires_ms)
        return min(due, default=None)

    def take(self) -> list[Output]:
        """The outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- inputs of a member ----------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Time has passed."""
        tenure = self._tenure
        self._proceed(now)
        if tenure is not None and self.phase in HOLDING and tenure.log_is_silent(now):
            tenure.probing()
            self._outputs.append(ProbeLog())

    def found(self, now: int) -> None:
        """This member may found the shard: it was told that the shard has never been formed. It then creates the Lease
        unless it finds one."""
        if self.phase is Phase.FOLLOWING and self._contender.epoch == 0:
            self._contender.founding = True
            self.look(now)

    def look(self, now: int) -> None:
        """Something says that the Lease may have changed, or is about to: read it now rather than at the next turn, and often for
        a while."""
        if self.phase is Phase.FOLLOWING:
            self._closely_until_ms = now + CLOSELY_MS
            self._look_again = self._busy is not None
            self._next_ms = now
            self._proceed(now)

    def observed(self, what: Observation, now: int) -> None:
        """What a `Read` came to."""
        if self.phase is Phase.OVER or self._busy != READING:
            return
        self._busy = None
        again, self._look_again = self._look_again, False
        if isinstance(what, LeaseRecord) and what.holder == self._election.holder:
            self._saw_own(what, now)
        elif self.phase is Phase.FOLLOWING:
            outdated = isinstance(what, LeaseRecord) and what.epoch < self._contender.epoch
            if not (again and outdated):
                self._contend(what, now)
        elif isinstance(what, LeaseRecord):
            self._end(f"{what.holder_name} holds the Lease now, in epoch {what.epoch}")
        else:
            self._next_ms = now + self._timing.retry_pause_ms  # a holder tries on until its time is up
        if again and self.phase is Phase.FOLLOWING:
            self._next_ms = now
        self._proceed(now)

    def written(self, request_id: int, outcome: WriteOutcome, now: int) -> None:
        """What a `Create` or `Write` came to."""
        if self.phase is Phase.OVER or self._busy != request_id or request_id == READING:
            return
        self._busy = None
        attempt = self._view.attempts.numbered(request_id)
        if isinstance(outcome, Stored) and attempt is not None:
            self._holds(msgspec.structs.replace(attempt.record, version=outcome.version), attempt, now)
        else:
            self._in_doubt = True
            self._next_ms = now
            self._write_not_before_ms = now + self._timing.retry_pause_ms
        self._proceed(now)

    def unfit(self, why: str | None) -> None:
        """Why this member cannot lead whatever the Lease says, as a sentence: it is being sent the log, say. None ends
        that."""
        self._contender.unfit = why

    def log_at(self, epoch: int, end: int, now: int) -> None:
        """The member's log ends with entry `end`, of `epoch`."""
        self._contender.log_end = end
        self.learned_epoch(epoch, now)

    def learned_epoch(self, epoch: int, now: int) -> None:
        """Somebody was heard in this epoch."""
        if epoch <= self._contender.epoch or self.phase is Phase.OVER:
            return
        self._contender.epoch = epoch
        if self.phase is Phase.FOLLOWING:
            self.look(now)
        else:
            self._end(f"there is a newer epoch, {epoch}")

    # --- inputs of a holder ----------------------------------------------------------------------

    def epoch_stored(self, epoch: int, now: int) -> None:
        """`PersistEpoch` is done, which is progress of the disk as well."""
        if self.phase is Phase.CLAIMED and self._tenure is not None and epoch == self._contender.epoch:
            self._tenure.epoch_durable = True
            self._tenure.log_progress(now)
            self._become(now)

    def log_progress(self, now: int) -> None:
        """The log has finished a write."""
        if self._tenure is not None:
            self._tenure.log_progress(now)

    def caught_up(self, member: int, now: int) -> None:
        """A member holds all that is committed, at this moment, and is to join the in-sync set."""
        self._want(member, now, in_sync=True)

    def fell_behind(self, member: int, now: int) -> None:
        """A member does not follow, or is beyond `maxLag`, and is to leave the in-sync set."""
        self._want(member, now, in_sync=False)

    def min_in_sync(self, copies: int) -> None:
        """`minInSync` is another one from now on."""
        policy = msgspec.structs.replace(self._election.policy, min_in_sync=copies)
        self._election = msgspec.structs.replace(self._election, policy=policy)
        if self._tenure is not None:
            self._tenure.policy = policy
            self._publish_sets()

    def hand_over(self, to: int, now: int) -> str | None:
        """Ends the leadership in favour of a member of the in-sync set. The caller has refused writes and waited until that
        member holds all of the log. Gives why it cannot be, as a sentence, or None."""
        tenure, known = self._tenure, self._view.record
        if not self.may_acknowledge(now) or tenure is None or known is None:
            return "this broker is not master"
        why_not = tenure.why_not_successor(to, known, self._view.attempts.records)
        if why_not is None:
            self._release(Release("leadership was handed over", to), now)
        return why_not

    def resign(self, why: str, now: int) -> None:
        """Ends this life in order: whoever may lead without loss need not wait for the Lease to run out. It is over when the
        phase is OVER, or when the driver waits no longer."""
        self._resigning = True
        if self.phase is Phase.FOLLOWING:
            # A claim that is under way may take effect yet.
            if self._busy in (None, READING):
                self._end(why)
        elif self.phase in HOLDING:
            self._release(self._contender.resignation(why), now)

    # --- exchanges with the store ----------------------------------------------------------------

    def _proceed(self, now: int) -> None:
        """Ends what has run out; else begins the next exchange if it is due."""
        tenure, known = self._tenure, self._view.record
        if tenure is not None and self.phase is Phase.MASTER and now >= tenure.stops_ms:
            self._end(tenure.why_not_renewed(now))
        elif tenure is not None and self.phase is Phase.RELEASING and now >= tenure.expires_ms:
            self._end("leadership was handed over, and the Lease could not be released in time")
        if self.phase is Phase.OVER or self._busy is not None or now < self._next_ms:
            return
        if tenure is None or known is None or self._in_doubt:
            self._busy = READING
            self._outputs.append(Read())
        elif now < self._write_not_before_ms:
            self._next_ms = self._write_not_before_ms
        elif self.phase is not Phase.RELEASING and tenure.log_stalled(now):
            self._next_ms = now + self._timing.retry_pause_ms
        else:
            self._send(tenure.next_record(known, self._contender.log_end), known.version, now)

    def _send(self, record: LeaseRecord, if_version: str, now: int) -> None:
        self._attempt += 1
        record = msgspec.structs.replace(record, attempt=self._attempt)
        self._view.attempts.sent(record, if_version, now)
        self._busy = self._attempt
        # Before it leaves: from then on the Lease may say so.
        self._publish_sets()
        if if_version == NOTHING:
            self._outputs.append(Create(self._attempt, record))
        else:
            self._outputs.append(Write(self._attempt, record, if_version))

    # --- what the Lease says ---------------------------------------------------------------------

    def _contend(self, what: Observation, now: int) -> None:
        """For a member that follows, and reads that somebody else holds the Lease, or nothing."""
        if self._resigning:
            self._end("the broker stopped before it led")
            return
        if isinstance(what, LeaseRecord) and self._view.is_news(what):
            self._view.adopt(what, now)
        decision = self._contender.decide(what, self._view, now)
        if isinstance(decision, Wait):
            closely = now < self._closely_until_ms
            poll_ms = self._timing.close_poll_ms if closely else self._timing.poll_interval_ms
            free_in_ms = poll_ms if decision.free_in_ms is None else decision.free_in_ms
            self._next_ms = now + min(poll_ms, free_in_ms)
            self._wait(decision)
        elif now < self._write_not_before_ms:
            self._next_ms = self._write_not_before_ms
        else:
            self._send(decision, what.version if isinstance(what, LeaseRecord) else NOTHING, now)

    def _saw_own(self, record: LeaseRecord, now: int) -> None:
        self._in_doubt = False
        if not self._view.is_news(record):
            self._next_ms = max(now, self._write_not_before_ms)
            return
        attempt = self._view.attempts.written_as(record)
        if attempt is not None:
            self._holds(record, attempt, now)
        elif self._view.says_the_same(record):
            # Somebody wrote what is not the election's, a label say. That renews nothing.
            self._view.adopt(record, now)
            self._next_ms = max(now, self._write_not_before_ms)
        elif record.released is not None:
            self._end(f"the Lease was released by somebody else: {record.released.reason}")
        else:
            self._end("somebody else changed what this broker had written into the Lease")

    def _holds(self, record: LeaseRecord, attempt: Attempt, now: int) -> None:
        """The Lease is known to say what this member wrote."""
        self._view.adopt(record, now)
        self._in_doubt = False
        if record.released is not None:
            self._end(record.released.reason)
            return
        if self._tenure is None:
            if record.epoch <= self._contender.epoch:
                self._end(
                    f"epoch {record.epoch} was claimed before epoch {self._contender.epoch} was known of"
                )
                return
            self._acquired(record, now)
        tenure = self._tenure
        assert tenure is not None
        tenure.renewed(attempt, now)
        if self.phase is Phase.CLAIMED:
            self._become(now)
        self._publish_sets()
        if self._resigning and self.phase in HOLDING:
            self._release(self._contender.resignation("the broker stopped before it led"), now)
            return
        at_once = self.phase is Phase.RELEASING or tenure.has_a_step_to_write(record)
        self._next_ms = now if at_once else attempt.sent_ms + self._timing.renew_interval_ms

    # --- the holder ------------------------------------------------------------------------------

    def _acquired(self, record: LeaseRecord, now: int) -> None:
        self.phase = Phase.CLAIMED
        self._contender.epoch = record.epoch
        self._tenure = Tenure(
            self._election.identity.member, self._election.policy, self._timing, record.in_sync, now
        )
        self._outputs.append(PersistEpoch(record.epoch))

    def _become(self, now: int) -> None:
        tenure, known = self._tenure, self._view.record
        assert tenure is not None
        assert known is not None
        if not tenure.epoch_durable or now >= tenure.stops_ms:
            return  # After the next renewal, then.
        self.phase = Phase.MASTER
        if known.loss_epoch == known.epoch:
            self._outputs.append(MayHaveLost(known.epoch, known.loss))
        first = tenure.new_sets(known, self._view.attempts.records)
        assert first is not None
        self._outputs.append(BecomeMaster(self._contender.epoch, first.sets, first.refusal))

    def _want(self, member: int, now: int, *, in_sync: bool) -> None:
        if self.phase is not Phase.MASTER or self._tenure is None:
            return
        if self._tenure.want(member, in_sync=in_sync):
            self._publish_sets()
            self._next_ms = min(self._next_ms, now)
            self._proceed(now)

    def _publish_sets(self) -> None:
        tenure, known = self._tenure, self._view.record
        if self.phase is not Phase.MASTER or tenure is None or known is None:
            return
        changed = tenure.new_sets(known, self._view.attempts.records)
        if changed is not None:
            self._outputs.append(changed)

    # --- small things ----------------------------------------------------------------------------

    def _wait(self, decision: Wait) -> None:
        waiting = Waiting(decision.reason, decision.sentence)
        if waiting != self._waiting:
            self._waiting = waiting
            self._outputs.append(waiting)

    def _release(self, release: Release, now: int) -> None:
        assert self._tenure is not None
        if self.phase is Phase.MASTER:
            self._outputs.append(StopAcknowledging(release.reason))
        self.phase = Phase.RELEASING
        self._tenure.release = release
        self._next_ms = self._write_not_before_ms = now
        self._proceed(now)

    def _end(self, why: str) -> None:
        if self.phase is Phase.MASTER:
            self._outputs.append(StopAcknowledging(why))
        self.phase = Phase.OVER
        self._outputs.append(Exit(why))
