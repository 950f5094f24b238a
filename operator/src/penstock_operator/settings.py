"""What an operator process is told when it starts."""

from __future__ import annotations

import msgspec


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the operator's own spans go."""

    endpoint: str  # base URL of a collector that takes OTLP over HTTP
    sampling: float  # share of the passes without a parent that are recorded, 0 to 1


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one operator; parsed once in `main`."""

    namespaces: list[str]  # to watch; none: all
    image: str  # of brokers whose spec names none
    own_namespace: str  # where the Lease is, and where NetworkPolicies let us come from
    lease_name: str
    identity: str  # unique per process
    resync_s: float  # of clusters and topics; groups report within ten seconds whatever it is
    health_host: str
    health_port: int
    pod_name: str = ""  # of the pod that it runs in; empty: it runs in none
    tracing: TracingSettings | None = None  # None: it is not traced
