"""One broker as a member of its shard: links, consensus, founding or joining, and what a leader does for the members.

Decisions are pure and stand in `replication` (founding, membership) and `raft`; this file asks them at the right
moments: at every tick, and when a peer comes or goes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from penstock.catalog.partitions import PartitionsDropped, opened
from penstock.catalog.placement import misplaced
from penstock.codec.peer import KIND_CONSENSUS, KIND_SEED, KIND_STATE, PeerFrame
from penstock.model.commands import Command
from penstock.model.errors import PenstockError
from penstock.raft.configuration import ChangeKind, Configuration
from penstock.raft.messages import MessageError, Refusal
from penstock.raft.progress import ProgressState
from penstock.replication.announcing import due_announcements
from penstock.replication.founding import FoundingStep, decide_founding
from penstock.replication.members import MemberChanged, MembershipCommand, ShardRecovered, member_id
from penstock.replication.membership import Peer, Roster, Standing, Step, next_change
from penstock.replication.seniority import Heir, Seniority
from penstock.runtime.clock import Clock
from penstock.runtime.comparing import StateComparison
from penstock.runtime.core_making import TICKS_PER_ELECTION, CoreMaker
from penstock.runtime.data_folder import MetaStore
from penstock.runtime.forked_tails import ForkedTails
from penstock.runtime.handing_over import HandingOver
from penstock.runtime.heard import Heard
from penstock.runtime.links import Links
from penstock.runtime.mastership import Elector, Mastership, led_outside
from penstock.runtime.member_options import BrokerIdentity, MemberOptions
from penstock.runtime.members_log import MembersLog
from penstock.runtime.opening import OpenedShard
from penstock.runtime.peer_requests import PeerRequests
from penstock.runtime.recoveries import Recoveries
from penstock.runtime.replica import Replica
from penstock.runtime.resizing import Resizing
from penstock.runtime.seeding import Seeding
from penstock.runtime.shipping import Shipping
from penstock.runtime.succession import Successor
from penstock.session.peer_connection import PROTOCOL_MAX, PROTOCOL_MIN, Greeting
from penstock.session.producers import PartitionProducersDropped
from penstock.telemetry.logs import fields

logger = logging.getLogger(__name__)

# Election timeouts for which a follower stands again and again after the leader's connection ended: one that has not
# noticed refuses it for one of them.
SUCCESSION_TIMEOUTS = 2

# The entry that begins an epoch, and some room around it.
LEADING_BYTES_MAX = 256

_STEPS = {
    Step.ADD_LEARNER: ChangeKind.LEARNER,
    Step.PROMOTE: ChangeKind.VOTER,
    Step.REMOVE: ChangeKind.REMOVE,
}


class ShardMember:
    """See the module's text. `quiet` is `Seeding`'s, `listeners` gives the advertised addresses by Kafka listener,
    `http` the bound ones by HTTP listener. `elector` says who leads, in a mode that elects nobody by votes."""

    def __init__(
        self,
        opened_shard: OpenedShard,
        store: MetaStore,
        options: MemberOptions,
        identity: BrokerIdentity,
        clock: Clock,
        *,
        listeners: Callable[[], dict[str, str]],
        http: Callable[[], dict[str, str]] = dict,
        covered: Callable[[], int],
        quiet: Callable[[], Awaitable[Callable[[], None]]],
        chance: random.Random,
        elector: Elector | None = None,
    ) -> None:
        self.shard = opened_shard.shard
        self.meta = opened_shard.meta
        self.own_member = member_id(self.meta.storage_id)
        self._options = options
        self._identity = identity
        self._clock = clock
        self._listeners, self._http = listeners, http
        self._seniority = Seniority(self.own_member, clock.monotonic_ms())
        self.links = Links(
            options.peers,
            self.greeting,
            on_joined=self._joined,
            on_left=self._left,
            on_gone=self._gone,
            on_frame=self._received,
        )
        self.requests = PeerRequests(self.links)
        self.shipping = Shipping(self.shard, self.links)
        self.forked_tails = ForkedTails(self.shard, opened_shard.forked)
        self.replica = Replica(
            self.shard,
            self.meta,
            store,
            self.shipping,
            clock,
            options.election_timeout_ms,
            led_outside(options.mode, elector, self.forked_tails),
        )
        self.replica.on_leader = self.requests.led_by
        self.seeding = Seeding(
            self.shard, opened_shard.snapshots, self.links, covered, quiet, self._report_snapshot
        )
        self.shipping.on_snapshot = self.seeding.send
        self._cores = CoreMaker(self.shard, lambda: self.replica.meta, self.seeding, options.mode, chance)
        self.resizing = Resizing(self.shard, self.links, options.replicas, self.hand_over)
        self.recoveries = Recoveries(self.replica, store, self.links, identity.name)
        self.comparison = StateComparison(
            self.shard, self.links, self.replica, self.own_member, clock, options.comparing
        )
        self.replica.attach(self._cores.make(self.recoveries.configuration()), self.seeding)
        self.waiting_for: str | None = "the broker is starting"
        self._ticker: asyncio.Task[None] | None = None
        # Where a Lease elects, its own lines tell who is in sync.
        self._log = MembersLog(self.shard.machines.members)
        self.replica.on_member_changed = self._log.changed
        self._heard = Heard(TICKS_PER_ELECTION)
        self.mastership: Mastership | None = None
        if elector is not None:
            self.mastership = Mastership(
                self.replica,
                elector,
                store,
                clock,
                can_lead=lambda: self._can_lead,
                is_heard=self._heard.lately,
            )
        self._handing_over = HandingOver(
            self.replica, self.mastership or self.replica, self.links, options.election_timeout_ms
        )
        self._successor = Successor(
            self.replica,
            chance,
            can_lead=lambda: self._can_lead,
            lasting_seconds=SUCCESSION_TIMEOUTS * options.election_timeout_ms / 1000,
        )

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to take part."""
        self.links.dial()
        self._ticker = asyncio.create_task(self._tick())
        self.begin()

    def begin(self) -> None:
        """What needs no peer: a broker that is alone leads at once."""
        self._consider_founding()
        if self.recoveries.configuration().voters == (self.own_member,):
            self._stand()

    def _stand(self) -> None:
        """Alone, this broker need not wait, but for the Lease where that says who leads."""
        if self.mastership is not None:
            self.mastership.found()
        elif self._can_lead:
            self.replica.campaign()

    @property
    def _can_lead(self) -> bool:
        """Whether the log has room for what a leader writes first."""
        return self.shard.log.has_room_for_commands([LEADING_BYTES_MAX])

    async def close(self) -> None:
        """Ends taking part; whoever is left elects another leader."""
        self._successor.close()
        await self.resizing.close()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await self.seeding.close()
        await self.links.close()

    async def _tick(self) -> None:
        interval = self._options.election_timeout_ms / TICKS_PER_ELECTION / 1000
        loop = asyncio.get_running_loop()
        due = loop.time() + interval
        while True:
            await asyncio.sleep(max(due - loop.time(), 0))
            # A late tick is one tick: after a pause, peers are heard before this broker campaigns.
            due = max(due + interval, loop.time())
            self.tick()

    def tick(self) -> None:
        """A tick has passed."""
        self._heard.tick()
        self._consider_founding()
        self.resizing.reach_peers(self._heard.lately)
        self.seeding.tick()
        if self.replica.is_leader or self._can_lead:
            self.replica.tick()
        else:
            self.waiting_for = "the disk has no room for another entry: free space or grow the volume"
        if self.mastership is not None:
            self.mastership.tick()
        if self.shard.leading:
            self.look_after_members()
        self.comparison.tick()

    # --- founding --------------------------------------------------------------------------------

    @property
    def founded(self) -> bool:
        """Whether this broker knows a configuration of its shard."""
        return bool(self.shard.configuration_in_log().voters)

    def _consider_founding(self) -> None:
        if self.founded or self.replica.is_leader:
            self.waiting_for = None
            return
        peers = {greeting.ordinal: greeting.founded for greeting in self.links.members()}
        alone_with_log = self._options.replicas == 1 and self.shard.log.next_index > 1
        decision = decide_founding(
            ordinal=self.meta.ordinal,
            replicas=self._options.replicas,
            formed=self._options.formed and not alone_with_log,
            peers_founded=peers,
        )
        self.waiting_for = decision.sentence or "the shard's leader has to take this broker in"
        if decision.step is FoundingStep.FOUND and not self.replica.core.configuration.voters:
            logger.info("founding the shard", extra=fields(shard_uid=str(self.meta.shard_uid)))
            self.replica.attach(self._cores.make(Configuration((self.own_member,))), self.seeding)
            self._stand()

    # --- links -----------------------------------------------------------------------------------

    def greeting(self) -> Greeting:
        """What this broker says of itself now."""
        meta = self.meta
        return Greeting(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            cluster_id=meta.cluster_id,
            shard_id=meta.shard_id,
            shard_uid=str(meta.shard_uid),
            ordinal=meta.ordinal,
            member=self.own_member,
            storage_id=str(meta.storage_id),
            name=self._identity.name,
            release=self._identity.release,
            feature_level=self._identity.feature_level,
            shard_level=self.shard.machines.members.level,
            founded=self.founded,
            last_index=self.shard.log.next_index - 1,
            listeners=self._listeners(),
            http=self._http(),
            peer=self._identity.peer,
            generation=self.recoveries.lineage[0],
            lineage=self.recoveries.lineage[1],
            members=self.recoveries.configuration().members,
            leads=self.shard.leading,
            up_ms=self._seniority.up_ms(self._clock.monotonic_ms()),
        )

    def _joined(self, greeting: Greeting) -> None:
        self._seniority.met(greeting.member, greeting.up_ms, self._clock.monotonic_ms())
        if self.mastership is not None:
            self.mastership.joined(greeting.member)
        self.recoveries.joined(greeting, blank=not self.founded)
        self._consider_founding()
        if self.shard.leading:
            self.look_after_members()

    def _left(self, greeting: Greeting) -> None:
        self._seniority.left(greeting.member)
        self.requests.left(greeting.member)
        if self.mastership is not None:
            self.mastership.left(greeting.member)
        self.replica.peer_left(greeting.member)
        self.replica.settling.moved()

    def _gone(self, greeting: Greeting) -> None:
        """The leader's process ended, or its machine is cut off: another one is needed now, not in a second."""
        if greeting.member != self.replica.leader_member:
            return
        if self.mastership is not None:
            self.mastership.leader_gone()
            return
        voters = self.replica.core.configuration.voters
        others = [voter for voter in voters if voter != greeting.member]
        self._successor.leader_is_gone(voters, self._seniority.rank(others))

    def _received(self, greeting: Greeting, frame: PeerFrame) -> None:
        self._heard.note(greeting.member)
        try:
            if frame.kind == KIND_CONSENSUS:
                self.replica.received(greeting.member, frame)
            elif frame.kind == KIND_SEED:
                message = self.seeding.received(frame)
                if message is not None:
                    self.replica.step(message)
            elif frame.kind == KIND_STATE:
                self.comparison.received(greeting.member, frame)
            else:
                self.requests.received(greeting, frame)
        except MessageError as refused:
            logger.warning("broker %s sent what cannot be: %s", greeting.name, refused.sentence)
            self.links.cut(greeting.member)

    def _report_snapshot(self, member: int, ok: bool) -> None:
        self.replica.core.report_snapshot(member, ok=ok)
        self.replica.turn()

    # --- what a leader does for the members ------------------------------------------------------

    def begin_leading(self) -> None:
        """What a new leader puts right before anything else."""
        # Produce is decided by it before the next tick.
        self._count_copies()
        members = self.shard.machines.members
        if not members.founded:
            self._change(MemberChanged(ChangeKind.VOTER, self.own_member), "it founds the shard")
        self._recover()
        commands: list[Command] = self._announcements()
        missing, surplus = misplaced(self.shard.machines.catalog, self.shard.machines.partitions)
        if missing or surplus:
            logger.warning(
                "a change of topics was cut short: %d partitions are opened and %d dropped now",
                len(missing),
                len(surplus),
            )
            commands += opened(missing)
            if surplus:
                commands += [PartitionsDropped(tuple(surplus)), PartitionProducersDropped(tuple(surplus))]
        self._append(commands)

    def _recover(self) -> bool:
        """A trusted member drops everybody else before it does anything else for the members; whether it still has to."""
        pending = self.recoveries.pending
        if pending is not None:
            self._change(ShardRecovered(pending), "it was trusted when the shard had lost its quorum")
        return pending is not None

    def look_after_members(self) -> None:
        """Announces, adds, promotes and removes, as far as that is possible now."""
        self._count_copies()
        if self._recover():
            return
        commands = self._announcements()
        if commands:
            self._append(commands)
        roster = self.roster()
        change = next_change(roster) or self.resizing.let_go(roster, set(self.in_sync_members()))
        leaves = change.member if change is not None and change.step is Step.REMOVE else None
        may_leave = self.mastership is None or self.mastership.lets_go(leaves)
        if change is not None and may_leave:
            self._change(MemberChanged(_STEPS[change.step], change.member), change.reason)

    def _count_copies(self) -> None:
        """This one counts also before the shard's founding is committed."""
        if self.mastership is not None:
            self.shard.in_sync_count = self.mastership.copies()
            return
        in_sync = self.in_sync_members()
        self.shard.in_sync_count = max(len(in_sync), 1)
        self._log.in_sync(in_sync)

    def _announcements(self) -> list[Command]:
        present = [self.greeting(), *self.links.members()]
        return due_announcements(
            self.shard.machines.members, self.shard.configuration_in_log(), present, self.resizing.wanted
        )

    def _append(self, commands: Sequence[Command]) -> None:
        if not commands:
            return
        try:
            self.shard.append_commands(commands)
        except PenstockError as error:
            logger.warning("a change of the shard's members has to wait: %s", error.sentence)

    def _change(self, command: MembershipCommand, reason: str) -> None:
        refusal = self.replica.propose_change(command)
        if refusal is None:
            logger.info("member %d: %s, because %s", command.member, command.change.value, reason)
        else:
            logger.debug("member %d: %s has to wait: %s", command.member, command.change, refusal.sentence)

    def roster(self) -> Roster:
        """Leader: what decisions about the members go by."""
        configuration = self.replica.core.configuration
        members = self.shard.machines.members
        known = members.announcements.committed
        # One that was connected before the level rose may know less than the shard uses by now.
        peers = [
            item
            for item in self.recoveries.kin(self.greeting, configuration)
            if item.feature_level >= members.newest_level
        ]
        return Roster(
            own=self.own_member,
            voters=configuration.voters,
            learners=configuration.learners,
            ordinals={member: item.ordinal for member, item in known.items()},
            peers=[Peer(item.ordinal, item.member, item.name) for item in peers],
            standings=self.standings(),
            last_index=self.shard.log.next_index - 1,
            wanted=self.resizing.wanted,
            elects=self._options.mode.elects,
        )

    # --- questions -------------------------------------------------------------------------------

    def standings(self) -> dict[int, Standing]:
        """Leader: how every other configured member does."""
        if not self.replica.is_leader:
            return {}
        return {
            item.member: Standing(item.match, self._heard.lately(item.member))
            for item in self.replica.core.status().followers
            if item.member != self.own_member
        }

    @property
    def leader_member(self) -> int:
        """See `service.cluster.Leadership`."""
        return self.replica.leader_member

    def in_sync_members(self) -> list[int]:
        """See `service.cluster.Leadership`: voters that the leader hears and that are sent the log as it grows."""
        voters = self.shard.machines.members.configuration.voters
        if not self.replica.is_leader:
            return list(voters)
        if self.mastership is not None:
            return self.mastership.in_sync_members()
        level = {
            item.member
            for item in self.replica.core.status().followers
            if item.state is ProgressState.REPLICATE and self._heard.lately(item.member)
        }
        return [member for member in voters if member == self.own_member or member in level]

    def not_ready_reasons(self) -> list[str]:
        """Why clients should not be sent here: it neither serves nor follows somebody who does."""
        if self.recoveries.split:
            return list(self.recoveries.split.values())
        if self.shard.leading:
            return []
        if self.waiting_for is not None:
            return [self.waiting_for, *self.links.refused.values()]
        if self.leader_member in (0, self.own_member):
            apart = self.resizing.why_apart(self.own_member, self.meta.ordinal)
            return [apart or "the shard has no leader now", *self.links.refused.values()]
        return [] if self.replica.caught_up else ["the broker is catching up with its shard"]

    def lag_bytes(self, match: int) -> int:
        """About how many bytes of the log come behind entry `match`."""
        log = self.shard.log
        last = log.next_index - 1
        if match >= last:
            return 0
        if match < log.first_index:
            return log.size_bytes
        return log.span_bytes(match + 1, last)

    async def hand_over(self, to: int | None = None) -> Refusal | None:
        """Gives the leadership to `to`, or to the follower that takes it best; or says why not. Returns once it moved."""
        voters, in_sync = self.replica.core.configuration.voters, self.in_sync_members()
        heirs = {
            member: Heir(member in in_sync, standing.match)
            for member, standing in self.standings().items()
            if member in voters and standing.active
        }
        chosen = to or self._seniority.heir(heirs)
        if not chosen:
            return Refusal("no other voter can be reached")
        return await self._handing_over.hand_over(chosen)

    async def until_settled(self) -> None:
        """See `service.cluster.Leadership`."""
        await self.replica.settling.wait()
