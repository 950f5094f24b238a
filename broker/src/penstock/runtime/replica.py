"""One member of a shard's group: does what the consensus core says with log, state, disk and links.

Everything happens on the loop. `turn` takes the core's Readys one after the other and carries each out; what a leader sent
may have to wait (`runtime.following`), and then the core gathers what comes meanwhile. What may leave only when it is on disk
is kept in order and sent as the disk answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE
from penstock.codec.peer import PeerFrame
from penstock.model.errors import ErrorCode, PenstockError
from penstock.raft.configuration import Change
from penstock.raft.core import RaftCore
from penstock.raft.messages import (
    Append,
    Heartbeat,
    MessageError,
    PeerMessage,
    Refusal,
    Snapshot,
    Span,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.ready import Generation, HardState, Leadership, Ready, Role
from penstock.raft.state import CommitSets
from penstock.replication.lease import Lease, Promise
from penstock.replication.members import LeadershipBegan, MembershipCommand, member_id
from penstock.replication.wire import decode_message
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import Meta, MetaStore
from penstock.runtime.following import Following
from penstock.runtime.forked_tails import ForkedTails
from penstock.runtime.hard_states import HardStates
from penstock.runtime.held_back import HeldBack
from penstock.runtime.read_gate import Gate, LeaseGate, ReadGate
from penstock.runtime.received import check_span
from penstock.runtime.seed import Seed, SeedingPort
from penstock.runtime.settling import Settling
from penstock.runtime.shard import Shard
from penstock.runtime.shipping import Shipping

logger = logging.getLogger(__name__)

# How long followers may not know what is committed, when nothing else is sent to them: a message for that alone would
# double the messages of a light load. Where commands are among it, they are told at once, for clients ask them about these.
TELL_COMMIT_SECONDS = 0.01


class LedOutside(msgspec.Struct, frozen=True):
    """Where a Lease says who leads: whether it is surely this broker's, at a moment of the monotonic clock in milliseconds,
    and who keeps what is cut, where masters acknowledge alone."""

    may_serve: Callable[[int], bool]
    aside: ForkedTails | None = None


class Replica:
    """See the module's text. `on_leading` and `on_following` are called when this broker begins and stops to serve."""

    def __init__(
        self,
        shard: Shard,
        meta: Meta,
        store: MetaStore,
        shipping: Shipping,
        clock: Clock,
        election_timeout_ms: int,
        led_outside: LedOutside | None = None,
    ) -> None:
        self.shard = shard
        self.own_member = member_id(meta.storage_id)
        self.meta = meta
        self.leadership = Leadership(Role.FOLLOWER, 0, meta.epoch)
        self.on_leading: Callable[[], None] = lambda: None
        self.on_following: Callable[[], None] = lambda: None
        self.on_member_changed: Callable[[], None] = lambda: None
        # Told who leads, whenever that is known anew.
        self.on_leader: Callable[[int], None] = lambda member: None
        # Where a Lease elects: told of epochs that are durable.
        self.on_epoch_stored: Callable[[int], None] = lambda epoch: None
        # Where a Lease elects: the leader hands over to this member.
        self.on_offered: Callable[[], None] = lambda: None
        # Told of a request for a vote, or an answer, before it is taken or sent.
        self.on_vote: Callable[[VoteRequest | VoteResponse], None] = lambda message: None
        self.core: RaftCore
        self._shipping = shipping
        self._clock = clock
        self._generation = Generation(0)
        self._told = shard.log.next_index - 1
        self._told_bytes = 0
        # What a leader had committed when it was first heard of; None before.
        self._heard_commit: int | None = None
        self._began_index = 0
        # The epoch in which this broker began to serve last.
        self.serving_since_epoch = 0
        # The core's configuration is the committed one as of this entry while the log is not as long: a snapshot told it.
        self._configured_index = 0
        self._turning = False
        self._telling_commit = False
        self.settling = Settling(lambda: self.settled)
        self._following = Following(
            shard,
            led_outside.aside if led_outside is not None else None,
            on_installed=self._installed,
            on_replaced=self._replaced,
            on_done=self._followed,
        )
        self._held_back = HeldBack()
        self._hard_states = HardStates(shard, store, lambda: self.meta, self._kept)
        self._promise = Promise(election_timeout_ms, clock.monotonic_ms())
        self._reads = self._gate(election_timeout_ms, led_outside)
        shard.when_sure = self._reads.when_sure
        shard.reads_waiting = lambda: self._reads.waiting
        shard.on_appended = self._appended
        shard.on_stored = self._stored
        shard.on_dropped = self._dropped
        shard.on_member_changed = lambda: self.on_member_changed()
        shard.on_led = self._led

    def _gate(self, election_timeout_ms: int, led_outside: LedOutside | None) -> Gate:
        if led_outside is not None:
            return LeaseGate(self.shard, self._clock, led_outside.may_serve)
        return ReadGate(
            self.shard,
            self._clock,
            Lease(election_timeout_ms),
            ask=lambda question: self.core.read_index(question) is None,
            turn=self.turn,
        )

    def attach(self, core: RaftCore, seeding: SeedingPort) -> None:
        """The core to be driven from now on, with the configuration as of the log's end; another one takes its place
        when a broker founds its shard."""
        self.core, self._following.seeding = core, seeding
        self._told = self.shard.log.next_index - 1
        self._told_bytes = self.shard.appended_bytes

    # --- what happens ----------------------------------------------------------------------------

    @property
    def leader_member(self) -> int:
        """Who leads as far as is known, 0 for nobody."""
        return self.leadership.leader

    @property
    def is_leader(self) -> bool:
        """Whether this member leads its epoch, if only to commit what earlier ones left."""
        return self.leadership.role is Role.LEADER

    @property
    def caught_up(self) -> bool:
        """Whether this broker leads or has applied, since it started, what a leader had committed by then. Before that its
        state is older than what clients were told already."""
        if self.shard.leading:
            return True
        return self._heard_commit is not None and self.shard.commit_index >= self._heard_commit

    @property
    def settled(self) -> bool:
        """Whether it is known who serves: this broker does, or it follows a leader that has committed the first entry of its
        epoch, and with it everything of those before."""
        if self.is_leader:
            return self.shard.leading
        log, commit = self.shard.log, self.shard.commit_index
        return self.leader_member != 0 and log.epoch_of(commit) == self.leadership.epoch

    def tick(self) -> None:
        """A tick has passed."""
        self._tell_if_leading()
        self._reads.renew()
        self.core.tick()
        self.turn()
        if self.is_leader:
            self._resume_serving()

    def received(self, sender: int, frame: PeerFrame) -> None:
        """A consensus frame came in. Raises MessageError, having taken nothing of it."""
        message = decode_message(frame.meta, frame.data, self._check_span)
        if message.sender != sender or message.to != self.own_member:
            raise MessageError(
                f"a message from {message.sender} to {message.to} came from {sender} to {self.own_member}"
            )
        self.step(message)

    def _check_span(self, span: Span, data: memoryview) -> Span:
        return check_span(span, data, self.shard.log.payload_bytes_max)

    def step(self, message: PeerMessage) -> None:
        """A peer's message. Raises MessageError."""
        self._tell_if_leading()
        if self._heard_commit is None and isinstance(message, Append):
            self._heard_commit = message.commit
        if isinstance(message, VoteRequest | VoteResponse):
            self.on_vote(message)
        elects = isinstance(message, VoteRequest) and not message.transfer
        if elects and self._promise.binds(self._clock.monotonic_ms()):
            return
        self.core.step(message)
        if isinstance(message, Heartbeat) and message.epoch == self.core.epoch:
            self._promise.given(self._clock.monotonic_ms())
        self.turn()
        if isinstance(message, TimeoutNow) and message.epoch == self.core.epoch:
            self.on_offered()

    def leader_is_gone(self) -> None:
        """The leader's connection to here ended: it need not be waited for."""
        self._promise.released()
        self.core.forget_leader()
        self.turn()

    def campaign(self) -> None:
        """Stands for election now."""
        self.core.campaign()
        self.turn()

    def take_epoch(self, epoch: int) -> Refusal | None:
        """Where a Lease elects: this member is to lead in this epoch once it is durable."""
        self._tell_if_leading()
        refusal = self.core.take_epoch(epoch)
        self.turn()
        return refusal

    def lead(self, epoch: int, sets: CommitSets) -> Refusal | None:
        """Leads in an epoch that was taken, or says why not now."""
        if self._following.waiting:
            return Refusal("what another leader sent is still being taken in")
        refusal = self.core.lead(epoch, sets)
        self.turn()
        return refusal

    def set_commit_sets(self, sets: CommitSets) -> None:
        """Leader: these in-sync sets decide on commits from now on."""
        self._tell_if_leading()
        self.core.set_commit_sets(sets)
        self.turn()

    def stop_leading(self) -> None:
        """Nothing is acknowledged or taken any more, at once."""
        if self.is_leader:
            self._tell()
            self.shard.stop_leading(_not_leading())
            self.core.stop_leading()
            self.turn()

    def hand_over(self, to: int) -> Refusal | None:
        """Stops taking requests and hands leadership to a voter; or says why not. It is taken back when the other one
        does not lead within an election timeout."""
        self._tell()
        refusal = self.core.transfer_leadership(to)
        if refusal is None:
            self._reads.hand_over()
            self.shard.leading = False
            self.turn()
        return refusal

    def tell_transferee(self) -> None:
        """See `RaftCore.tell_transferee`."""
        self.core.tell_transferee()
        self.turn()

    def propose_change(self, command: MembershipCommand) -> Refusal | None:
        """Leader: appends one step of the configuration, or says why not now."""
        self._tell()
        if not self.shard.leading:
            return Refusal("this broker does not lead")
        size = ENTRY_HEADER_SIZE + len(self.shard.codec.encode(command))
        index = self.core.propose_change(Change(command.change, command.member), size)
        if isinstance(index, Refusal):
            return index
        self._append_own([command], index)
        self.turn()
        return None

    # --- the shard's hooks -----------------------------------------------------------------------

    def _appended(self) -> None:
        if self.is_leader:
            self._tell()
            self.turn()
        # What a commit set off goes to the writer with the rest.
        self._tell_if_leading()

    def _tell_if_leading(self) -> None:
        """Before anything that may end the leadership: afterwards the core could not be told any more, and the log would
        hold entries that it does not know of."""
        if self.is_leader:
            self._tell()

    def _tell(self) -> None:
        """Lets the core know of what was appended since."""
        last = self.shard.log.next_index - 1
        if last > self._told:
            size = self.shard.appended_bytes - self._told_bytes
            given = self.core.append(last - self._told, size)
            # What was appended was allowed to be: `leading` is false before the core refuses.
            assert not isinstance(given, Refusal), given.sentence
            assert given[1] == last, f"the log ends at {last}, the core's at {given[1]}"
            self._told, self._told_bytes = last, self.shard.appended_bytes

    def _stored(self) -> None:
        if not self._held_back.replacing:
            self.core.stored(self.shard.stored_index, self._generation)
        self._release()
        self.turn()

    def _dropped(self) -> None:
        self.core.compacted(self.shard.log.first_index)

    def _led(self, index: int, command: LeadershipBegan) -> None:
        if self.is_leader and index == self._began_index:
            # The rest of this commit is applied first.
            asyncio.get_running_loop().call_soon(self._begin_serving, index)

    def _begin_serving(self, began_index: int) -> None:
        if self.shard.leading or not self.is_leader or self._began_index != began_index:
            return
        # Handing over already, it serves once that has come to nothing: `_resume_serving`.
        if self.core.append_refusal() is not None:
            return
        self.shard.leading = True
        self.settling.moved()
        if self.serving_since_epoch == self.leadership.epoch:
            return
        self.serving_since_epoch = self.leadership.epoch
        logger.info("leading the shard in epoch %d", self.leadership.epoch)
        self.on_leading()

    def _resume_serving(self) -> None:
        """After a hand-over that came to nothing."""
        if 0 < self._began_index <= self.shard.commit_index:
            self._begin_serving(self._began_index)

    # --- the core's wishes -----------------------------------------------------------------------

    def turn(self) -> None:
        """Carries out what the core wants, until it wants nothing more or something has to be waited for."""
        if self._turning:
            return
        self._turning = True
        try:
            while not self._following.waiting and self.core.has_ready:
                ready = self.core.ready()
                if ready is None:
                    break
                self._perform(ready)
        finally:
            self._turning = False
        if self.core.commit_due and not self._telling_commit:
            self._telling_commit = True
            asyncio.get_running_loop().call_later(TELL_COMMIT_SECONDS, self._tell_commit)

    def _tell_commit(self) -> None:
        self._telling_commit = False
        self.core.tell_commit()
        self.turn()

    def _perform(self, ready: Ready) -> None:
        if ready.leadership is not None:
            self._lead_or_follow(ready.leadership)
        if ready.begin_epoch is not None:
            self._begin_epoch(ready.begin_epoch.index)
        if ready.hard_state is not None and ready.sync_hard_state:
            self._keep(ready.hard_state)
        if not self.leadership.leader:
            for message in (*ready.messages, *ready.messages_after):
                if isinstance(message, VoteRequest | VoteResponse):
                    self.on_vote(message)
        self._shipping.send(ready.messages, self._unreachable)
        for read in ready.reads:
            self._reads.answered(read.context)
        if ready.replaces:
            self._held_back.begin_anew()
        self._generation = ready.generation
        if ready.messages_after:
            self._held_back.hold(ready.last_index, self._hard_states.begun, ready.messages_after)
        if self._following.take(ready):
            self._go_on(ready)

    def _followed(self, ready: Ready) -> None:
        """What a leader sent had to wait, and is in the log now."""
        self._go_on(ready)
        self.turn()

    def _installed(self, snapshot: Snapshot) -> None:
        self._told = self.shard.log.next_index - 1
        assert isinstance(snapshot.payload, Seed)
        self._configured_index = snapshot.payload.configured_index
        self.core.snapshot_installed(snapshot.index)

    def _replaced(self) -> None:
        self._held_back.replaced()
        # What is left of the log may have been stored meanwhile.
        self.core.stored(self.shard.stored_index, self._generation)

    def _go_on(self, ready: Ready) -> None:
        if ready.appends or ready.truncate_from is not None:
            self._told = self.shard.log.next_index - 1
        if ready.recount is not None:
            self._recount(ready.recount)
        self._release()
        self._commit(ready)

    def _commit(self, ready: Ready) -> None:
        if ready.committed is not None:
            last = ready.committed[1]
            self._tell_if_leading()
            commands = self.shard.advance(last)
            self.core.applied(last)
            self.settling.moved()
            if commands:
                self.core.tell_commit()
            if self.is_leader and self.serving_since_epoch == self.leadership.epoch:
                self._resume_serving()

    def _lead_or_follow(self, leadership: Leadership) -> None:
        before, self.leadership = self.leadership, leadership
        self.shard.log.epoch = max(self.shard.log.epoch, leadership.epoch)
        led = before.role is Role.LEADER
        if led and (leadership.role is not Role.LEADER or leadership.epoch != before.epoch):
            self._began_index = 0
            served = self.serving_since_epoch == before.epoch
            self.shard.stop_leading(_not_leading())
            logger.info("no longer leading the shard, epoch %d", leadership.epoch)
            if served:
                self.on_following()
        if (leadership.role, leadership.epoch) != (before.role, before.epoch):
            self._reads.leadership_changed()
        if leadership.leader not in (0, before.leader, self.own_member):
            logger.info("following member %d in epoch %d", leadership.leader, leadership.epoch)
        elif before.leader and not leadership.leader and not led:
            logger.info("no leader is known, epoch %d", leadership.epoch)
        if leadership.leader:
            self.on_leader(leadership.leader)
        self.settling.moved()

    def _begin_epoch(self, index: int) -> None:
        self.shard.stage_in_flight()
        self._began_index = index
        self._append_own([LeadershipBegan(self.own_member, self._clock.now_ms())], index)

    def _append_own(self, commands: Sequence[LeadershipBegan | MembershipCommand], index: int) -> None:
        """Appends what the core has counted already."""
        try:
            last = self.shard.append_commands(commands)
        except PenstockError as error:
            # The core's log and this one would differ from here on.
            self.shard.fail(error)
            raise
        assert last == index, f"the log ends at {last}, the core's at {index}"
        self._told, self._told_bytes = last, self.shard.appended_bytes

    # --- following -------------------------------------------------------------------------------

    def _recount(self, recount: int) -> None:
        """The log says something else of the members than before."""
        told = self._told < self._configured_index
        configuration = self.core.configuration if told else self.shard.configuration_in_log()
        self.core.configure(configuration, recount)

    # --- what waits for the disk -----------------------------------------------------------------

    def _keep(self, state: HardState) -> None:
        self.meta = msgspec.structs.replace(self.meta, epoch=state.epoch, vote=state.vote, led=state.led)
        self._hard_states.keep(state)

    def _kept(self, state: HardState) -> None:
        self.core.hard_state_stored(state)
        self.on_epoch_stored(state.epoch)
        self._release()
        self.turn()

    def _release(self) -> None:
        """Sends what the disk has caught up with, in order."""
        for messages in self._held_back.due(self.shard.stored_index, self._hard_states.stored):
            self._shipping.send(messages, self._unreachable)

    def _unreachable(self, member: int) -> None:
        self.core.report_unreachable(member)

    def peer_left(self, member: int) -> None:
        """Nothing can be sent to it any more."""
        self._reads.doubt()
        self._unreachable(member)


def _not_leading() -> PenstockError:
    return PenstockError(
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        "another broker leads the shard now: ask the cluster for it and send again",
    )
