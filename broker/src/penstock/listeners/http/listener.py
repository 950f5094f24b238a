"""The data API's listener: its routes on one address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.listeners.http.application import HttpApplication
from penstock.listeners.http.browse import BrowseRoutes
from penstock.listeners.http.fetch import FetchRoutes
from penstock.listeners.http.leader_proxy import LeaderProxy
from penstock.listeners.http.limits import DATA_BODY_BYTES_MAX
from penstock.listeners.http.openapi import with_openapi
from penstock.listeners.http.produce import ProduceRoutes
from penstock.listeners.http.queues import QueueRoutes
from penstock.listeners.http.server import HttpServer
from penstock.listeners.http.topics import DataTopicRoutes

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices

PROTOCOL = "http"


class DataHttpListener:
    """Serves the data API on `host:port` (0 picks a free port) until `stop`."""

    def __init__(self, name: str, host: str, port: int, services: HttpServices) -> None:
        counters = services.counters.protocol(PROTOCOL)
        self.name = name
        self._produce = ProduceRoutes(services)
        self._leader = LeaderProxy(services.leader, name, counters)
        self.routes = with_openapi(
            "Penstock data API",
            "Produce, read and lease messages over HTTP. Any broker answers. Errors are problem documents (RFC 9457).",
            [
                *DataTopicRoutes(services).routes(),
                *self._produce.routes(),
                *BrowseRoutes(services).routes(),
                *FetchRoutes(services).routes(),
                *QueueRoutes(services).routes(),
            ],
        )
        self._application = application = HttpApplication(
            self.routes,
            listener=name,
            protocol=PROTOCOL,
            body_bytes_max=DATA_BODY_BYTES_MAX,
            counters=counters,
            leader=self._leader,
        )
        # A long poll whose client went away ends at once. What was produced goes on in the batcher's own tasks.
        self._server = HttpServer(application, host, port, counters, handler_cancellation=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port, the real one after `start`."""
        return self._server.address

    @property
    def requests_open(self) -> int:
        """How many requests are being served."""
        return self._application.requests_open

    async def start(self) -> None:
        """Binds and accepts. Raises OSError when the address is taken."""
        await self._server.start()

    async def stop(self) -> None:
        """Stops accepting, answers what it has taken, closes."""
        await self._server.stop()
        await self._leader.close()
        await self._produce.stop()
