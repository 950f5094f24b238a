"""A broker's own account of itself, read from the admin API's answers.

Answers are checked field by field: an operator and a broker of different releases meet here, and what a broker does
not say is None rather than a crash.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock_operator.api.topic import value_text


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a running broker."""

    value: Any
    default: Any
    source: str  # default | file | dynamic
    dynamic: bool  # whether it can be changed while the broker runs

    def is_value(self, wanted: Any) -> bool:
        """Whether the broker already has this value; numbers and their texts are the same."""
        mine, theirs = value_text(self.value), value_text(wanted)
        if mine == theirs:
            return True
        try:
            return float(mine) == float(theirs)  # 1.0 and 1, 0.50 and 0.5
        except ValueError:
            return False


class MemberReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One broker of a shard, as the shard reports it."""

    name: str
    role: str = "Unknown"
    in_sync: bool = False
    lag_bytes: int = 0
    address: dict[str, str] = msgspec.field(default_factory=dict)  # listener -> what clients are told


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The last time that a shard went on from one trusted copy; see `api.cluster.Recovery`."""

    generation: int
    broker: str
    epoch: int = 0
    last_index: int = 0
    last_epoch: int = 0
    commit_index: int = 0
    at: str = ""


class ShardReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One shard, as its brokers report it. `replicas` is how many brokers it is to have, 0 where its release does not say;
    `resizable`: whether it can be told another number. While more are members, `leaving` is its leader's sentence on what comes next."""

    id: int
    uid: str = ""
    leader: str | None = None
    epoch: int = 0
    members: list[MemberReport] = msgspec.field(default_factory=list)
    recovery: RecoveryReport | None = None
    replicas: int = 0
    resizable: bool = False
    leaving: str = ""
    leaving_refused: bool = False


class ClusterReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Answer of `GET /v1/cluster`."""

    cluster_id: str
    version: str = ""
    shards: list[ShardReport] = msgspec.field(default_factory=list)


class ElectionReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`election` in the answer of `GET /v1/broker`: a broker's part in the election over its shard's Lease. While it does not
    lead, `reason` and `sentence` say why; `loss` is what may be lost since `loss_epoch`."""

    phase: str = ""
    reason: str = ""
    sentence: str = ""
    loss: str = ""
    loss_epoch: int = 0


class BrokerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one broker said when it was asked; `unknown` is the sentence why it did not.

    A broker that is not ready says what it knows of the cluster, but nothing is concluded from its settings.
    """

    cluster: ClusterReport | None = None
    settings: dict[str, Setting] | None = None
    not_ready: list[str] = msgspec.field(default_factory=list)  # the broker's own reasons, from /readyz
    unknown: str | None = None
    election: ElectionReport | None = None  # mode MasterSlave


def parse_cluster(answer: Any) -> ClusterReport:
    """`GET /v1/cluster`. Raises ValueError with a sentence when it is something else."""
    try:
        return msgspec.convert(answer, ClusterReport)
    except msgspec.ValidationError as error:
        raise ValueError(f"the broker's answer to GET /v1/cluster is not understood: {error}") from error


def parse_election(answer: Any) -> ElectionReport | None:
    """`election` of `GET /v1/broker`; None where the broker does not say. Raises ValueError."""
    found = answer.get("election") if isinstance(answer, dict) else None
    if found is None:
        return None
    try:
        return msgspec.convert(found, ElectionReport)
    except msgspec.ValidationError as error:
        raise ValueError(f"the broker's answer to GET /v1/broker is not understood: {error}") from error


def parse_settings(answer: Any) -> dict[str, Setting]:
    """`GET /v1/config`: {"config": [{name, value, default, source, dynamic}, ...]}. Raises ValueError."""
    rows = answer.get("config") if isinstance(answer, dict) else None
    try:
        return {
            row["name"]: Setting(
                value=row.get("value"),
                default=row.get("default"),
                source=str(row.get("source", "default")),
                dynamic=bool(row.get("dynamic", False)),
            )
            for row in rows or []
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the broker's answer to GET /v1/config is not understood: {error!r}") from error
