"""Who asks: the identity that travels with every request from its listener to the use-case."""

from __future__ import annotations

import msgspec


class RequestContext(msgspec.Struct, frozen=True):
    """Where a request comes from. `principal` is `anonymous` until a listener authenticates."""

    listener: str
    protocol: str
    client_id: str = ""
    client_host: str = ""
    principal: str = "anonymous"
