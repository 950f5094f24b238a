"""The broker itself: who it is, how it is, and whether clients may be sent here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.ids import node_id
from penstock.replication.features import FEATURE_LEVEL, RESIZED_LEVEL
from penstock.replication.forked_tail import ForkedTail
from penstock.replication.recovery import Recovery
from penstock.runtime.clock import Clock
from penstock.runtime.maintenance import Maintenance
from penstock.runtime.member import ShardMember
from penstock.runtime.shard import Shard
from penstock.service.api import BrokerStatus, ForkedOffsets, ForkedTailStatus, MemberStatus, ReplicaDigest
from penstock.service.cluster import ClusterView
from penstock.service.digests import replica_digest
from penstock.telemetry.counters import Counters

Role = Literal["Leader", "Follower", "Learner"]

# Rates are taken over about this many seconds.
RATE_WINDOW_MS = 5_000
_SAMPLES_MAX = 16


class Identity(msgspec.Struct, frozen=True):
    """What does not change while the broker runs."""

    cluster_id: str
    cluster_name: str
    name: str
    node_id: int
    shard_id: int
    shard_uid: str
    storage_id: str
    version: str
    started_at_ms: int
    mode: str = "Raft"


class BrokerServiceImpl:
    """Implements `penstock.service.api.BrokerService`. `sample` is called about once a second for the rates."""

    def __init__(
        self,
        identity: Identity,
        shard: Shard,
        maintenance: Maintenance,
        counters: Counters,
        clock: Clock,
        listeners: Callable[[], Sequence[tuple[str, str, str, str]]],
        member: ShardMember,
        view: ClusterView,
    ) -> None:
        self._identity = identity
        self._shard = shard
        self._maintenance = maintenance
        self._counters = counters
        self._clock = clock
        self._listeners = listeners
        self._member = member
        self._view = view
        self._samples: deque[tuple[int, int, int, int]] = deque(maxlen=_SAMPLES_MAX)
        self.starting = True
        self.stopping = False

    def sample(self) -> None:
        """Notes the counters, so that `status` can tell rates."""
        protocols = self._counters.copy().protocols.values()
        self._samples.append(
            (
                self._clock.monotonic_ms(),
                self._counters.messages_in,
                sum(protocol.bytes_in for protocol in protocols),
                sum(protocol.bytes_out for protocol in protocols),
            )
        )
        while len(self._samples) > 2 and self._samples[-1][0] - self._samples[0][0] > RATE_WINDOW_MS:
            self._samples.popleft()

    def _rates(self) -> tuple[float, float, float]:
        if len(self._samples) < 2:
            return 0.0, 0.0, 0.0
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last[0] - first[0], 1) / 1000
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds, (last[3] - first[3]) / seconds

    def status(self) -> BrokerStatus:
        """See `BrokerService.status`."""
        identity, log, disk = self._identity, self._shard.log, self._maintenance.disk
        messages, bytes_in, bytes_out = self._rates()
        leaving, refused = self._leaving()
        mastership = self._member.mastership
        return BrokerStatus(
            cluster_id=identity.cluster_id,
            cluster_name=identity.cluster_name,
            name=identity.name,
            node_id=identity.node_id,
            shard_id=identity.shard_id,
            shard_uid=identity.shard_uid,
            storage_id=identity.storage_id,
            version=identity.version,
            epoch=self._shard.epoch,
            started_at_ms=identity.started_at_ms,
            listeners=list(self._listeners()),
            log_first_index=log.first_index,
            log_last_index=log.next_index - 1,
            log_commit_index=self._shard.commit_index,
            log_bytes=log.size_bytes,
            disk_total_bytes=disk.total_bytes,
            disk_used_bytes=disk.used_bytes,
            disk_state=disk.state,
            messages_in_per_second=messages,
            bytes_in_per_second=bytes_in,
            bytes_out_per_second=bytes_out,
            role=self._role(),
            leader=self._leader_name(),
            members=self._members(),
            recovery=self._member.recoveries.in_log,
            feature_level=self._shard.machines.members.level,
            mode=identity.mode,
            forked=[self._forked(report) for report in self._member.forked_tails.reports],
            replicas=self._member.resizing.replicas,
            resizable=self._shard.machines.members.level >= RESIZED_LEVEL,
            leaving=leaving,
            leaving_refused=refused,
            election=None if mastership is None else mastership.status(),
            serving=self._shard.leading,
        )

    def _forked(self, report: ForkedTail) -> ForkedTailStatus:
        by_key = self._shard.table.by_key
        partitions = []
        for key, offsets in sorted(report.partitions.items()):
            found = by_key.get(key)
            topic, number = (found.topic, found.number) if found is not None else ("", -1)
            partitions.append(ForkedOffsets(topic, number, offsets.first, offsets.last, offsets.messages))
        return ForkedTailStatus(
            report.file,
            report.first_index,
            report.last_index,
            report.entries,
            report.kept_entries,
            report.exact,
            partitions,
        )

    # --- the shard -------------------------------------------------------------------------------

    def _role(self) -> Role:
        member = self._member
        if member.replica.is_leader:
            return "Leader"
        voters = member.shard.machines.members.configuration.voters
        return "Follower" if member.own_member in voters else "Learner"

    def _leaving(self) -> tuple[str, bool]:
        member = self._member
        if not self._shard.leading:
            return "", False
        return member.resizing.sentence(member.roster(), member.in_sync_members())

    def _leader_name(self) -> str:
        if self._member.leader_member == self._member.own_member:
            return self._identity.name
        return self._view.leader_name()

    def _members(self) -> list[MemberStatus]:
        """Every configured member by ordinal; this broker also before it has announced itself."""
        shard, own = self._member.shard, self._member.own_member
        standings = self._member.standings()
        in_sync = set(self._member.in_sync_members())
        configuration = shard.machines.members.configuration
        last = shard.log.next_index - 1
        found: dict[int, MemberStatus] = {}
        for item in shard.machines.members.configured():
            standing = standings.get(item.member)
            lag = max(last - standing.match, 0) if standing is not None else 0
            node = node_id(self._identity.shard_id, item.ordinal)
            role: Role = "Follower" if item.member in configuration.voters else "Learner"
            if item.member == self._member.leader_member:
                role = "Leader"
            found[node] = MemberStatus(
                item.name,
                node,
                role,
                item.member in in_sync,
                lag,
                self._member.lag_bytes(standing.match) if standing is not None else 0,
                item.listeners,
                item.feature_level,
            )
        if not found or (own == self._member.leader_member and self._identity.node_id not in found):
            advertised = {name: address for name, _, _, address in self._listeners()}
            name, own_node = self._identity.name, self._identity.node_id
            found[own_node] = MemberStatus(
                name, own_node, self._role(), own in in_sync, 0, 0, advertised, FEATURE_LEVEL
            )
        return [found[node] for node in sorted(found)]

    async def digest(self, first: int | None = None, last: int | None = None) -> ReplicaDigest:
        """See `BrokerService.digest`."""
        return await replica_digest(self._shard, first, last)

    async def hand_over(self, to: str | None = None) -> None:
        """See `BrokerService.hand_over`."""
        self._shard.check_leading()
        members = self._shard.machines.members
        chosen = None
        if to is not None:
            chosen = next((item.member for item in members.configured() if item.name == to), None)
            if chosen not in members.configuration.voters or chosen == self._member.own_member:
                raise PenstockError(
                    ErrorCode.INVALID_REQUEST, f"{to} is not another voter of this shard: see its members"
                )
        refusal = await self._member.hand_over(chosen)
        if refusal is not None:
            raise PenstockError(ErrorCode.REQUEST_TIMED_OUT, f"the leadership stays here: {refusal.sentence}")

    async def resize(self, replicas: int) -> None:
        """See `BrokerService.resize`."""
        await self._member.resizing.ask(replicas)

    async def trust(self, shard_uid: str, storage_id: str) -> Recovery:
        """See `BrokerService.trust`."""
        return await self._member.recoveries.trust(shard_uid, storage_id, self._clock.now_ms())

    def not_ready_reasons(self) -> list[str]:
        """See `BrokerService.not_ready_reasons`. A full disk is none: consume goes on; /v1/broker shows it."""
        reasons = []
        if self.starting:
            reasons.append("the broker is starting")
        if self.stopping:
            reasons.append("the broker is stopping")
        if not reasons:
            reasons += self._member.not_ready_reasons()
            if reasons and self._member.mastership is not None:
                # Where a Lease says who leads, it says why nobody does.
                reasons += filter(None, [self._member.mastership.status().sentence])
        return reasons
