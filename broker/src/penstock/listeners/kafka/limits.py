"""Every bound of the Kafka listener, by name. Reaching one is an ordinary outcome that a peer is told or logged.

Names follow Kafka's settings where Kafka has one; sizes are bytes, times milliseconds.
"""

from __future__ import annotations

import msgspec

from penstock.session.kafka_connection import ConnectionLimits

MIB = 1024 * 1024

# Pause between two looks at all connections (idle, stalled, half closed). Times below are as exact as this.
SWEEP_MS = 1_000
# How many connections may wait to be accepted.
ACCEPT_BACKLOG = 1024
# What a fetch may bring although responses already wait for slow readers.
FETCH_BYTES_MIN = 16 * 1024
# A fetch that waits longer than this is answered empty, so that a closed peer leaves nothing behind for long.
FETCH_WAIT_MS_MAX = 60_000
# Log lines about closed connections: at most this many in a window; a line says how many were left out.
CLOSE_LINES_MAX = 20
CLOSE_WINDOW_MS = 10_000


class KafkaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one listener.

    `request_bytes_max` is Kafka's `socket.request.max.bytes` and in fact bounds produce requests; requests of other
    APIs are turned into many small objects and so may have `control_request_bytes_max`, those that carry a group's
    subscriptions and assignments `group_request_bytes_max`. `queued_request_bytes_max` bounds requests of all
    connections (`queued.max.request.bytes`), `queued_response_bytes_max` what slow readers have not taken.
    """

    request_bytes_max: int = 100 * MIB
    group_request_bytes_max: int = 4 * MIB
    control_request_bytes_max: int = 1 * MIB
    inflight_requests_max: int = 128
    # Requests of one connection that are started before other connections get their turn.
    requests_per_turn_max: int = 32
    queued_request_bytes_max: int = 256 * MIB
    queued_response_bytes_max: int = 256 * MIB
    # Bytes that may wait for one peer before its next request is held back.
    response_bytes_high: int = 256 * 1024
    fetch_bytes_max: int = 8 * MIB
    connections_max: int = 20_000
    # `connections.max.idle.ms`.
    connection_idle_ms_max: int = 600_000
    # How long a peer that ended its side may wait for its answers.
    half_closed_ms_max: int = 10_000
    # When a memory bound is reached: how long a peer may neither finish its request nor take its response.
    stalled_ms_max: int = 10_000
    # How long `stop` waits for requests in flight.
    stop_ms_max: int = 2_000

    @property
    def connection(self) -> ConnectionLimits:
        """The part that each connection's machine obeys."""
        return ConnectionLimits(self.request_bytes_max, self.inflight_requests_max)
