"""What an operator process is told when it starts."""

from __future__ import annotations

import msgspec


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
