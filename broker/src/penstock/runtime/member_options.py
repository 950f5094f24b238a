"""What a member of a shard is told at its start, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.raft.modes import RAFT
from penstock.raft.state import Mode
from penstock.replication.comparing import ComparingOptions
from penstock.replication.features import FEATURE_LEVEL
from penstock.runtime.links import Address


class MemberOptions(msgspec.Struct, frozen=True):
    """`peers` has the other brokers' addresses by ordinal."""

    replicas: int
    formed: bool
    election_timeout_ms: int
    peers: Mapping[int, Address]
    comparing: ComparingOptions = ComparingOptions()
    mode: Mode = RAFT


class BrokerIdentity(msgspec.Struct, frozen=True):
    """What a broker says of itself to others."""

    name: str
    release: str
    peer: str
    feature_level: int = FEATURE_LEVEL
