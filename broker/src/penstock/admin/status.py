"""`/v1/cluster` and `/v1/broker`: who this broker is, where it listens, and how it is doing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.admin.models import (
    Broker,
    Cluster,
    DiskStatus,
    Listener,
    LogStatus,
    Rates,
    Shard,
    ShardMember,
)
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.service.api import BrokerStatus

MODE_STANDALONE = "Standalone"


class StatusRoutes:
    """The cluster as this broker knows it, and the broker itself."""

    def __init__(self, services: HttpServices) -> None:
        self._broker = services.broker

    def routes(self) -> Routes:
        """Both routes."""
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
        return [cluster, broker]

    async def cluster(self, call: Call[NoQuery, NoBody]) -> Reply:
        """The cluster."""
        return Reply(cluster_view(self._broker.status()))

    async def broker(self, call: Call[NoQuery, NoBody]) -> Reply:
        """This broker."""
        return Reply(broker_view(self._broker.status(), int(time.time() * 1000)))


def cluster_view(status: BrokerStatus) -> Cluster:
    """One shard with one member, as long as a cluster is one broker."""
    member = ShardMember(
        name=status.name,
        node_id=status.node_id,
        role="Leader",
        in_sync=True,
        lag_bytes=0,
        address={name: advertised for name, _, _, advertised in status.listeners},
    )
    shard = Shard(
        id=status.shard_id,
        uid=status.shard_uid,
        leader=status.name,
        epoch=status.epoch,
        members=[member],
    )
    return Cluster(
        cluster_id=status.cluster_id,
        cluster_name=status.cluster_name,
        version=status.version,
        mode=MODE_STANDALONE,
        shards=[shard],
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
    )
