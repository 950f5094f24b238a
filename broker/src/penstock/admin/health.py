"""`/healthz`, `/readyz` and `/metrics`: for probes and scrapers, served even when everything else is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.admin.models import Health, Readiness
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes
from penstock.telemetry.metrics import METRICS_MEDIA_TYPE, render
from penstock.telemetry.samples import BrokerSample, MemberSample, MembersSample, MetricsSnapshot

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.service.api import BrokerService, BrokerStatus


class HealthRoutes:
    """Probes and metrics."""

    def __init__(self, services: HttpServices) -> None:
        self._services = services

    def routes(self) -> Routes:
        """The three routes."""
        health: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/healthz",
            name="getHealth",
            summary="Answers while the event loop turns.",
            handler=self.health,
            replies={200: Health},
            query=NoQuery,
            body=NoBody,
            quick=True,
            local=True,
        )
        readiness: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/readyz",
            name="getReadiness",
            summary="Whether clients may be sent here; 503 with reasons when not.",
            handler=self.readiness,
            replies={200: Readiness, 503: Readiness},
            query=NoQuery,
            body=NoBody,
            quick=True,
            local=True,
        )
        metrics: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/metrics",
            name="getMetrics",
            summary="Metrics in Prometheus' text format.",
            handler=self.metrics,
            replies={200: str},
            query=NoQuery,
            body=NoBody,
            reply_media_type="text/plain",
            quick=True,
            local=True,
        )
        return [health, readiness, metrics]

    async def health(self, call: Call[NoQuery, NoBody]) -> Reply:
        """That this answer comes is the answer."""
        return Reply(Health(healthy=True))

    async def readiness(self, call: Call[NoQuery, NoBody]) -> Reply:
        """Ready, or the reasons why not."""
        reasons = self._services.broker.not_ready_reasons()
        return Reply(Readiness(not reasons, reasons), status=503 if reasons else 200)

    async def metrics(self, call: Call[NoQuery, NoBody]) -> Reply:
        """Numbers are taken here, on the loop that owns them, and written out in a thread."""
        services = self._services
        samples = await services.measured.samples()
        snapshot = MetricsSnapshot(services.counters.copy(), broker_sample(services.broker), samples)
        return Reply(await asyncio.to_thread(render, snapshot), media_type=METRICS_MEDIA_TYPE)


def broker_sample(service: BrokerService) -> BrokerSample:
    """What metrics show of the broker's status."""
    status = service.status()
    return BrokerSample(
        name=status.name,
        node_id=status.node_id,
        version=status.version,
        ready=not service.not_ready_reasons(),
        epoch=status.epoch,
        started_at_ms=status.started_at_ms,
        log_bytes=status.log_bytes,
        log_last_index=status.log_last_index,
        log_commit_index=status.log_commit_index,
        disk_total_bytes=status.disk_total_bytes,
        disk_used_bytes=status.disk_used_bytes,
        disk_state=status.disk_state,
        feature_level=status.feature_level,
        leads=status.serving,
        leader_known=bool(status.leader),
        members=members_sample(status),
    )


def members_sample(status: BrokerStatus) -> MembersSample | None:
    """What a leader knows of the others; None of anybody else, who would show zeros."""
    if status.role != "Leader":
        return None
    return MembersSample(
        len(status.members),
        sum(member.in_sync for member in status.members),
        status.replicas,
        [
            MemberSample(member.name, member.lag_entries, member.lag_bytes)
            for member in status.members
            if member.role != "Leader"
        ],
    )
