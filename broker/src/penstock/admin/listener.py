"""The admin API's listener: its routes on one address. Not for clients of the broker, and without authentication yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.admin.configuration import ConfigRoutes
from penstock.admin.groups import GroupRoutes
from penstock.admin.health import HealthRoutes
from penstock.admin.status import StatusRoutes
from penstock.admin.topics import TopicRoutes
from penstock.admin.tracing import TracingRoutes
from penstock.listeners.http.application import HttpApplication
from penstock.listeners.http.leader_proxy import LeaderProxy
from penstock.listeners.http.limits import ADMIN_BODY_BYTES_MAX
from penstock.listeners.http.openapi import with_openapi
from penstock.listeners.http.server import HttpServer

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices

PROTOCOL = "admin"


class AdminHttpListener:
    """Serves the admin API on `host:port` (0 picks a free port) until `stop`."""

    def __init__(self, name: str, host: str, port: int, services: HttpServices) -> None:
        counters = services.counters.protocol(PROTOCOL)
        self.name = name
        self._leader = LeaderProxy(services.leader, name, counters)
        self.routes = with_openapi(
            "Penstock admin API",
            "Topics, groups and the cluster, by any broker; health, metrics and configuration of the broker that is asked. "
            "Errors are problem documents (RFC 9457).",
            [
                *HealthRoutes(services).routes(),
                *StatusRoutes(services).routes(),
                *TopicRoutes(services).routes(),
                *GroupRoutes(services).routes(),
                *ConfigRoutes(services).routes(),
                *TracingRoutes(services).routes(),
            ],
        )
        application = HttpApplication(
            self.routes,
            listener=name,
            protocol=PROTOCOL,
            body_bytes_max=ADMIN_BODY_BYTES_MAX,
            counters=counters,
            leader=self._leader,
        )
        self._server = HttpServer(application, host, port, counters)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port, the real one after `start`."""
        return self._server.address

    async def start(self) -> None:
        """Binds and accepts. Raises OSError when the address is taken."""
        await self._server.start()

    async def stop(self) -> None:
        """Stops accepting, answers what it has taken, closes."""
        await self._server.stop()
        await self._leader.close()
