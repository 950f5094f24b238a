"""What joins a replica to whoever elects its shard's master: in mode MasterSlave, the holder of the shard's Lease.

The elector decides, and tells it here: an epoch to be made durable, to lead in it, with which in-sync sets, to stop. In the
other direction it is told (`Elector`) how far the log and its disk are, which epochs were met, who follows closely and who
does not, and that leadership is to be handed over. Neither side waits for the other.

Being told to lead is a standing order: a replica that cannot yet does as soon as it can, until it is told otherwise or
meets a newer epoch. The elector is told why it cannot (`Elector.unfit`), and has somebody else lead where that is possible.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from penstock.model.errors import ErrorCode, PenstockError
from penstock.raft.messages import Refusal
from penstock.raft.progress import ProgressState
from penstock.raft.state import Mode
from penstock.replication.election_status import ElectionStatus
from penstock.replication.in_sync import Follower, InSync
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import MetaStore
from penstock.runtime.forked_tails import ForkedTails
from penstock.runtime.replica import LedOutside, Replica

logger = logging.getLogger(__name__)

# How often it is looked whether the member that leadership is handed to is level.
LEVEL_SECONDS = 0.002

Sets = tuple[frozenset[int], ...]


class MastershipLostError(Exception):
    """This life of the broker is over, because it is master no more, or may not be any more. The text is a sentence."""


class Elector(Protocol):
    """Who decides which member leads."""

    def may_serve(self, now_ms: int) -> bool:
        """Whether this broker is master beyond doubt, at this moment of the monotonic clock. Cheap: asked at every read and
        at every commit."""
        ...

    def log_progress(self) -> None:
        """The log's disk has finished a write: not the page cache, which takes more while a disk hangs."""
        ...

    def log_at(self, epoch: int, last_index: int) -> None:
        """The newest epoch that this member knows, and where its log ends, as far as it is stored."""
        ...

    def found(self) -> None:
        """This member is the only one of its shard: it founds it, or is alone in it. May come again."""
        ...

    def unfit(self, why: str | None) -> None:
        """Why this member, which does not lead, could not in any epoch, as a sentence; None when nothing is in its way."""
        ...

    def status(self) -> ElectionStatus:
        """What is known of the Lease now."""
        ...

    def look(self) -> None:
        """The leader hands over to this member, or the connection to it ended: the Lease may have changed, or is about to."""
        ...

    def caught_up(self, member: int) -> None:
        """A member holds all that is committed, at this moment, and follows closely: it may join the in-sync set."""
        ...

    def fell_behind(self, member: int) -> None:
        """A member does not follow closely any more: it is to leave the in-sync set."""
        ...

    def hand_over(self, to: int) -> str | None:
        """A member holds all of the log, and nothing is appended any more: gives the leadership to it, or says why not."""
        ...


def led_outside(mode: Mode, elector: Elector | None, tails: ForkedTails) -> LedOutside | None:
    """What a replica has to know of its elector, None where members elect."""
    assert mode.elects == (elector is None), "either members elect, or an elector"
    if elector is None:
        return None
    return LedOutside(elector.may_serve, tails if mode.may_fork else None)


class Mastership:
    """See the module's text. `can_lead`: the log has room for what a leader writes first; `is_heard`: a member was heard of
    lately."""

    def __init__(
        self,
        replica: Replica,
        elector: Elector,
        store: MetaStore,
        clock: Clock,
        *,
        can_lead: Callable[[], bool],
        is_heard: Callable[[int], bool],
    ) -> None:
        self._replica = replica
        self._elector = elector
        self._store = store
        self._clock = clock
        self._can_lead = can_lead
        self._is_heard = is_heard
        # What it was told last: the epoch to lead in, 0 for none, the in-sync sets, and why writes are refused.
        self._epoch = 0
        self._sets: Sets = ()
        self._refusal: str | None = None
        self._in_sync = InSync(0, waits=True)
        # Members that are to leave the shard, and leave the in-sync set before.
        self._leaving: frozenset[int] = frozenset()
        self._persisting: list[tuple[int, Callable[[], None]]] = []
        self._told = (0, -1)
        self._unfit: str | None = None
        self._not_yet = ""
        # Whose connection has ended, and whether leadership was given away.
        self._gone: set[int] = set()
        self._given = False
        # The process is stopped in order: no end of its mastership ends it any more.
        self.stopping = False
        # The process's: this life is over; at once, or in order where leadership was given away, which leaves nothing in doubt.
        self.on_exit: Callable[[str], None] = lambda why: replica.shard.fail(MastershipLostError(why))
        self.on_given: Callable[[str], None] = lambda why: self.on_exit(why)
        replica.on_epoch_stored = self._epoch_stored
        replica.shard.on_synced = elector.log_progress
        replica.on_offered = elector.look
        replica.shard.before_answering = self._before_answering

    def _before_answering(self) -> None:
        """A process that stood still may be about to acknowledge what came before, and another one may lead by now."""
        if self._replica.is_leader and not self._elector.may_serve(self._clock.monotonic_ms()):
            self.stop_acknowledging("the Lease may be somebody else's by now")

    # --- what the elector says -------------------------------------------------------------------

    def persist_epoch(self, epoch: int, then: Callable[[], None]) -> Refusal | None:
        """Calls back once the epoch is durable; from now on whatever is older is refused. Or says why not."""
        waiting = (epoch, then)
        self._persisting.append(waiting)
        refusal = self._replica.take_epoch(epoch)
        if refusal is not None:
            self._persisting.remove(waiting)
        return refusal

    def become_master(self, epoch: int, sets: Sets, refusal: str | None = None) -> None:
        """Leads in an epoch that is durable, as soon as that can be; `refusal` says why clients may write nothing."""
        self._epoch = epoch
        self._take(sets, refusal)
        self._lead()

    def sets_changed(self, sets: Sets, refusal: str | None = None) -> None:
        """These count from now on: the old and the new one while a change is unresolved."""
        self._take(sets, refusal)
        self._count()

    def stop_acknowledging(self, why: str) -> None:
        """Nothing is acknowledged, taken or read any more, at once. In this epoch this broker never leads again."""
        self._epoch = 0
        logger.warning("not master any more: %s", why)
        self._replica.stop_leading()

    def exit(self, why: str) -> None:
        """Ends this life of the broker, unless it is being stopped anyway."""
        self.stop_acknowledging(why)
        if self.stopping:
            return
        (self.on_given if self._given else self.on_exit)(why)

    def probe(self) -> None:
        """Has the log's disk finish a write, although there may be nothing to write."""
        shard = self._replica.shard
        shard.threads.writer.submit(partial(self._store.save_meta, self._replica.meta), self._probed)

    def _probed(self, _: object, error: BaseException | None) -> None:
        # One that fails is no progress; what it means for the log, the log's own next write tells.
        if error is None:
            self._elector.log_progress()

    def _take(self, sets: Sets, refusal: str | None) -> None:
        self._sets, newly = sets, self._refusal is None
        self._refusal = refusal
        shard = self._replica.shard
        if self._replica.is_leader:
            shard.in_sync_count = self.copies()
            if newly and refusal is not None:
                # Fewer copies than were promised may hold it by the time it is committed.
                shard.fail_uncommitted(PenstockError(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, refusal))

    # --- what happens ----------------------------------------------------------------------------

    def tick(self) -> None:
        """A tick has passed."""
        replica, at = self._replica, self.standing
        if at != self._told:
            self._told = at
            self._elector.log_at(*at)
        if not replica.is_leader:
            self._tell_whether_it_can_lead()
        if self._epoch and not replica.is_leader:
            self._lead()
        if replica.is_leader:
            self._look_at_followers()

    def _tell_whether_it_can_lead(self) -> None:
        why = None if self._can_lead() else "the disk has no room for another entry"
        why = self._replica.core.why_unfit_to_lead or why
        if why != self._unfit:
            self._unfit = why
            self._elector.unfit(why)

    def _epoch_stored(self, epoch: int) -> None:
        due = [then for awaited, then in self._persisting if awaited <= epoch]
        self._persisting = [pair for pair in self._persisting if pair[0] > epoch]
        for then in due:
            then()

    def _lead(self) -> None:
        if self._replica.core.epoch > self._epoch:
            self._epoch = 0  # Somebody leads a newer one.
            return
        if not self._can_lead():
            return
        refusal = self._replica.lead(self._epoch, self._sets)
        if refusal is not None:
            if refusal.sentence != self._not_yet:
                logger.info("not leading epoch %d yet: %s", self._epoch, refusal.sentence)
            self._not_yet = refusal.sentence
            return
        self._not_yet = ""
        waits = not self._replica.core.mode.may_fork
        self._in_sync = InSync(self._clock.monotonic_ms(), waits=waits)

    def _look_at_followers(self) -> None:
        replica = self._replica
        core, own = replica.core, replica.own_member
        named = frozenset[int]().union(*self._sets) - {own}
        followers = [
            Follower(
                item.member,
                item.match,
                self._is_heard(item.member),
                votes=not item.learner,
                gone=item.member in self._gone,
            )
            for item in core.status().followers
            if item.member != own
        ]
        before = self._in_sync.joining
        changes = self._in_sync.look(
            self._clock.monotonic_ms(),
            core.last_index,
            core.committed_index if core.knows_commit else None,
            followers,
            named,
            self._leaving,
        )
        if self._in_sync.joining != before:
            self._count()
        for member in changes.caught_up:
            logger.info("member %d has caught up", member)
            self._elector.caught_up(member)
        for member in changes.fell_behind:
            logger.warning("member %d fell behind", member)
            self._elector.fell_behind(member)

    def lets_go(self, member: int | None) -> bool:
        """Leader: this member is to leave the shard, or nobody. Whether no in-sync set names it any more, so that it can; if
        one does, it is taken out first. Asked at every tick."""
        self._leaving = frozenset() if member is None else frozenset({member})
        lease = self._elector.status()
        named = frozenset[int]().union(*self._sets, lease.in_sync, lease.pending or ())
        return self._leaving.isdisjoint(named)

    def _count(self) -> None:
        """Commits wait for every member of every set, and for those that are about to join."""
        joining = self._in_sync.joining
        sets = (*self._sets, joining | {self._replica.own_member}) if joining else self._sets
        self._replica.set_commit_sets(sets)

    def found(self) -> None:
        """This broker is the only member."""
        self._tell_whether_it_can_lead()
        self._elector.found()

    def joined(self, member: int) -> None:
        """There is a connection to it."""
        self._gone.discard(member)

    def left(self, member: int) -> None:
        """The connection to it has ended."""
        self._gone.add(member)

    def leader_gone(self) -> None:
        """The connection to the leader ended."""
        self._replica.leader_is_gone()
        self._elector.look()

    # --- handing over ----------------------------------------------------------------------------

    def hand_over(self, to: int) -> Refusal | None:
        """Takes no requests any more, waits until the other one holds all, and gives it the leadership; or says why not. It is
        taken back when the other one is not level within an election timeout."""
        refusal = self._replica.hand_over(to)
        if refusal is None:
            self._give(to)
        return refusal

    def _give(self, to: int) -> None:
        replica = self._replica
        if not replica.is_leader or replica.core.transferee != to:
            return  # It came to nothing.
        if replica.core.level_transferee != to:
            asyncio.get_running_loop().call_later(LEVEL_SECONDS, self._give, to)
            return
        # Before it is: afterwards this member speaks for nobody.
        replica.tell_transferee()
        sentence = self._elector.hand_over(to)
        self._given = sentence is None
        if sentence is not None:
            logger.warning("leadership is not handed over: %s", sentence)

    # --- questions -------------------------------------------------------------------------------

    @property
    def standing(self) -> tuple[int, int]:
        """The newest epoch that this member knows, and where its log ends, as far as it is stored."""
        return self._replica.core.epoch, self._replica.shard.stored_index

    def status(self) -> ElectionStatus:
        """See `Elector.status`."""
        return self._elector.status()

    def in_sync_members(self) -> list[int]:
        """Leader: the voters that count as copies now."""
        core, own = self._replica.core, self._replica.own_member
        voters = core.configuration.voters
        if core.mode.may_fork:
            level = {
                item.member
                for item in core.status().followers
                if item.state is ProgressState.REPLICATE and self._is_heard(item.member)
            }
        else:
            level = set(voters).intersection(*self._sets)
        return [member for member in voters if member == own or member in level]

    def copies(self) -> int:
        """Leader: how many copies a write can count on; 0 while the elector refuses writes."""
        if self._refusal is not None:
            return 0
        return len(self.in_sync_members())
