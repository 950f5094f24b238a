"""One HTTP listener's socket: start, address, stop, and a bound on connections.

aiohttp parses and serves; what it lacks is a bound on open connections, so a connection beyond it meets a protocol
that says 503 and closes. Stopping closes the socket first, then waits for the requests that are being served.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from penstock.listeners.http.limits import (
    CONNECTIONS_MAX,
    HEADER_BYTES_MAX,
    KEEPALIVE_SECONDS,
    SHUTDOWN_SECONDS,
)

if TYPE_CHECKING:
    from penstock.listeners.http.application import HttpApplication
    from penstock.telemetry.counters import ProtocolCounters

_SENTENCE: Final = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,'
    b'"detail":"This listener has as many connections as it takes; close some or try again later.",'
    b'"code":"THROTTLING_QUOTA_EXCEEDED"}'
)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Retry-After: 1\r\nContent-Length: " + str(len(_SENTENCE)).encode() + b"\r\n\r\n" + _SENTENCE
)


class HttpServer:
    """A listening socket in front of an application. `port` 0 picks a free one; `address` says which."""

    def __init__(
        self,
        application: HttpApplication,
        host: str,
        port: int,
        counters: ProtocolCounters,
        *,
        connections_max: int = CONNECTIONS_MAX,
        handler_cancellation: bool = False,
    ) -> None:
        self._application = application
        self._host = host
        self._port = port
        self._counters = counters
        self._connections_max = connections_max
        # Bodies are taken as they come: decompressing one would allocate what its length does not say.
        self._runner = web.AppRunner(
            application.web,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=handler_cancellation,
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._socket: asyncio.Server | None = None
        self.address: tuple[str, int] = (host, port)

    async def start(self) -> None:
        """Binds and accepts. Raises OSError when the address is taken."""
        await self._runner.setup()
        self._counters.open_sources.append(self._open)
        try:
            self._socket = await asyncio.get_running_loop().create_server(
                self._protocol, self._host, self._port, reuse_address=True
            )
        except OSError:
            await self._close()
            raise
        host, port = self._socket.sockets[0].getsockname()[:2]
        self.address = (host, port)

    async def stop(self) -> None:
        """Stops accepting, lets running requests finish within a bound, closes all connections."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._application.stop_waiting()
            await self._close()

    async def _close(self) -> None:
        await self._runner.cleanup()
        self._counters.open_sources.remove(self._open)

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or self._open() >= self._connections_max:
            self._counters.connections_refused += 1
            return _FullProtocol()
        self._counters.connections += 1
        return server()

    def _open(self) -> int:
        server = self._runner.server
        return 0 if server is None else len(server.connections)


class _FullProtocol(asyncio.Protocol):
    """Says that the listener is full, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(_FULL)
        transport.close()
