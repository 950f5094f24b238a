"""`/v1/cluster` and `/v1/broker`: who this broker is, where it listens, and how it is doing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.admin.models import (
    Broker,
    Cluster,
    Digest,
    DigestRange,
    DiskStatus,
    Election,
    ForkedOffsets,
    ForkedTail,
    HandOver,
    Leader,
    Listener,
    LogStatus,
    Rates,
    Recovery,
    Resize,
    Shard,
    ShardMember,
    Size,
    Trust,
)
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.replication import recovery as replication
    from penstock.replication.election_status import ElectionStatus
    from penstock.service.api import BrokerStatus, ForkedTailStatus


class StatusRoutes:
    """The cluster as this broker knows it, and the broker itself."""

    def __init__(self, services: HttpServices) -> None:
        self._broker = services.broker

    def routes(self) -> Routes:
        """All of them; handing over is for the leader."""
        cluster: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/v1/cluster",
            name="getCluster",
            summary="The cluster: its shards, their leaders and members.",
            handler=self.cluster,
            replies={200: Cluster},
            query=NoQuery,
            body=NoBody,
            local=True,
        )
        broker: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/v1/broker",
            name="getBroker",
            summary="This broker: listeners, log, disk, rates.",
            handler=self.broker,
            replies={200: Broker},
            query=NoQuery,
            body=NoBody,
            local=True,
        )
        hand_over: Route[NoQuery, HandOver] = Route(
            method="POST",
            path="/v1/shard/hand-over",
            name="handOver",
            summary="Moves the shard's leadership to another broker; answers once it moved.",
            handler=self.hand_over,
            replies={200: Leader},
            query=NoQuery,
            body=HandOver,
        )
        resize: Route[NoQuery, Resize] = Route(
            method="POST",
            path="/v1/shard/resize",
            name="resize",
            summary="How many brokers the shard should have; answers when that is committed. /v1/cluster tells how far it is.",
            handler=self.resize,
            replies={200: Size},
            query=NoQuery,
            body=Resize,
        )
        digest: Route[DigestRange, NoBody] = Route(
            method="GET",
            path="/v1/shard/digest",
            name="getDigest",
            summary="Hashes of this broker's log and state, to compare replicas by.",
            handler=self.digest,
            replies={200: Digest},
            query=DigestRange,
            body=NoBody,
            local=True,
        )
        trust: Route[NoQuery, Trust] = Route(
            method="POST",
            path="/v1/shard/trust",
            name="trustMember",
            summary="The shard's quorum is lost for good: it goes on from this broker's copy. What others had may be gone.",
            handler=self.trust,
            replies={200: Recovery},
            query=NoQuery,
            body=Trust,
            local=True,
        )
        return [cluster, broker, hand_over, resize, trust, digest]

    async def cluster(self, call: Call[NoQuery, NoBody]) -> Reply:
        """The cluster."""
        return Reply(cluster_view(self._broker.status()))

    async def hand_over(self, call: Call[NoQuery, HandOver]) -> Reply:
        """Gives the leadership away."""
        await self._broker.hand_over(call.body.to)
        status = self._broker.status()
        return Reply(Leader(status.leader, status.epoch))

    async def resize(self, call: Call[NoQuery, Resize]) -> Reply:
        """Says how many brokers there should be."""
        await self._broker.resize(call.body.replicas)
        return Reply(Size(call.body.replicas))

    async def trust(self, call: Call[NoQuery, Trust]) -> Reply:
        """Trusts this copy."""
        return Reply(recovery_view(await self._broker.trust(call.body.shard_uid, call.body.storage_id)))

    async def digest(self, call: Call[DigestRange, NoBody]) -> Reply:
        """Hashes."""
        found = await self._broker.digest(call.query.first, call.query.index)
        return Reply(
            Digest(found.commit_index, found.first_index, found.last_index, found.entries, found.machines)
        )

    async def broker(self, call: Call[NoQuery, NoBody]) -> Reply:
        """This broker."""
        return Reply(broker_view(self._broker.status(), int(time.time() * 1000)))


def cluster_view(status: BrokerStatus) -> Cluster:
    """The shard with its members, as this broker knows them."""
    members = [
        ShardMember(
            name=member.name,
            node_id=member.node_id,
            role=member.role,
            in_sync=member.in_sync,
            lag_bytes=member.lag_bytes,
            address=member.address,
            lag_entries=member.lag_entries,
            feature_level=member.feature_level,
        )
        for member in status.members
    ]
    shard = Shard(
        id=status.shard_id,
        uid=status.shard_uid,
        leader=status.leader,
        epoch=status.epoch,
        members=members,
        recovery=None if status.recovery is None else recovery_view(status.recovery),
        feature_level=status.feature_level,
        replicas=status.replicas,
        resizable=status.resizable,
        leaving=status.leaving,
        leaving_refused=status.leaving_refused,
    )
    return Cluster(
        cluster_id=status.cluster_id,
        cluster_name=status.cluster_name,
        version=status.version,
        mode=status.mode,
        shards=[shard],
    )


def recovery_view(recovery: replication.Recovery) -> Recovery:
    """What people are told of it; its lineage is the brokers' own."""
    return Recovery(
        generation=recovery.generation,
        broker=recovery.broker,
        epoch=recovery.epoch,
        last_index=recovery.last_index,
        last_epoch=recovery.last_epoch,
        commit_index=recovery.commit_index,
        at=datetime.fromtimestamp(recovery.time_ms / 1000, UTC),
    )


def broker_view(status: BrokerStatus, now_ms: int) -> Broker:
    """The broker's own numbers at wall-clock time `now_ms`."""
    return Broker(
        name=status.name,
        node_id=status.node_id,
        version=status.version,
        storage_id=status.storage_id,
        started_at=datetime.fromtimestamp(status.started_at_ms / 1000, UTC),
        uptime_seconds=max(0, now_ms - status.started_at_ms) / 1000,
        listeners=[Listener(*listener) for listener in status.listeners],
        log=LogStatus(
            status.log_first_index, status.log_last_index, status.log_commit_index, status.log_bytes
        ),
        disk=DiskStatus(status.disk_total_bytes, status.disk_used_bytes, status.disk_state),
        rates=Rates(status.messages_in_per_second, status.bytes_in_per_second, status.bytes_out_per_second),
        role=status.role,
        shard_uid=status.shard_uid,
        forked_tails=[forked_view(tail) for tail in status.forked],
        election=None if status.election is None else election_view(status.election),
    )


def election_view(status: ElectionStatus) -> Election:
    """The same names."""
    return Election(**msgspec.structs.asdict(status))


def forked_view(tail: ForkedTailStatus) -> ForkedTail:
    """What is not in the shard's log any more."""
    return ForkedTail(
        file=tail.file,
        first_index=tail.first_index,
        last_index=tail.last_index,
        entries=tail.entries,
        kept_entries=tail.kept_entries,
        exact=tail.exact,
        partitions=[
            ForkedOffsets(each.topic, each.partition, each.first_offset, each.last_offset, each.messages)
            for each in tail.partitions
        ],
    )
