"""Rules of `MessageCluster`. The notation is explained in `rules`."""

from __future__ import annotations

import re
from typing import Any, Final

from penstock_operator.api.cluster import (
    ELECTION_TIMEOUT_DEFAULT,
    LEASE_DURATION_DEFAULT,
    RENEW_INTERVAL_DEFAULT,
    STORAGE_SIZE_DEFAULT,
    STORAGE_SIZE_MIN,
)
from penstock_operator.api.names import (
    ADMIN_LISTENER,
    ADMIN_PORT,
    HTTP_LISTENER,
    HTTP_PORT_DEFAULT,
    KAFKA_PORT_DEFAULT,
    PEER_LISTENER,
    PEER_PORT,
)
from penstock_operator.api.rules import Rule, unavailable
from penstock_operator.api.units import duration_ms, quantity_exact

NAME_LENGTH_MAX: Final = 40  # "<name>-0-0" and "<name>-bootstrap" plus the listener's name stay within 63
MASTER_SLAVE_FAILOVER: Final = frozenset({"leaseDuration", "renewInterval", "maxLag", "allowDataLoss"})
ELECTION_TIMEOUT_MS_MIN: Final = 100
ELECTION_TIMEOUT_MS_MAX: Final = 60_000
LEASE_DURATION_MS_MIN: Final = 1_000
LEASE_DURATION_MS_MAX: Final = 60_000
RENEW_INTERVAL_MS_MIN: Final = 100
OWNED_LABEL_PREFIXES: Final = ("penstock.io/", "app.kubernetes.io/", "statefulset.kubernetes.io/")

_SIZE_CEL = f"quantity(has({{0}}.storage) && has({{0}}.storage.size) ? string({{0}}.storage.size) : '{STORAGE_SIZE_DEFAULT}')"
_HTTP_PORT_CEL = f"(has(self.http) && has(self.http.port) ? self.http.port : {HTTP_PORT_DEFAULT})"
_LEASE_CEL = f"(has(self.leaseDuration) ? self.leaseDuration : '{LEASE_DURATION_DEFAULT}')"
_RENEW_CEL = f"(has(self.renewInterval) ? self.renewInterval : '{RENEW_INTERVAL_DEFAULT}')"
_LOSS_CEL = "((has(self.failover.maxLag) && self.failover.maxLag > 0) || (has(self.failover.allowDataLoss) && self.failover.allowDataLoss))"
_CLASS_CEL = "(has({0}.storage) && has({0}.storage.storageClassName) ? {0}.storage.storageClassName : '')"


def _size(spec: dict[str, Any]) -> Any:
    return quantity_exact((spec.get("storage") or {}).get("size", STORAGE_SIZE_DEFAULT))


def _storage_class(spec: dict[str, Any]) -> Any:
    return (spec.get("storage") or {}).get("storageClassName", "")


def _ports(spec: dict[str, Any]) -> list[int]:
    listeners = spec.get("listeners") or [{"port": KAFKA_PORT_DEFAULT}]
    return [listener["port"] for listener in listeners]


def _http_port(spec: dict[str, Any]) -> int:
    port: int = (spec.get("http") or {}).get("port", HTTP_PORT_DEFAULT)
    return port


# No user, password or query: a spec is no place for secrets, and the path of the signal is added to it.
_OTLP_URL = r"https?://([a-zA-Z0-9]([-a-zA-Z0-9._]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[-a-zA-Z0-9._~/]*)?"
_OBJECT_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"

# Whole milliseconds in few digits, so that CEL's arithmetic and ours cannot differ.
_SIMPLE_DURATION = r"[0-9]{1,6}ms|[0-9]{1,3}([.][0-9]{1,3})?s"


def _simple_duration_cel(value: str) -> str:
    return f"{value}.matches('^({_SIMPLE_DURATION})$')"


def _is_within(text: str, least_ms: int, most_ms: int) -> bool:
    return re.fullmatch(_SIMPLE_DURATION, text) is not None and least_ms <= duration_ms(text) <= most_ms


def _is_election_timeout(text: str) -> bool:
    return _is_within(text, ELECTION_TIMEOUT_MS_MIN, ELECTION_TIMEOUT_MS_MAX)


def _is_lease_duration(text: str) -> bool:
    return _is_within(text, LEASE_DURATION_MS_MIN, LEASE_DURATION_MS_MAX)


def _fits_lease(renewal: str, lease: str) -> bool:
    if re.fullmatch(_SIMPLE_DURATION, lease) is None:
        return True  # another rule says so
    return _is_within(renewal, RENEW_INTERVAL_MS_MIN, duration_ms(lease) // 2)


def _may_lose(failover: dict[str, Any]) -> bool:
    return bool(failover.get("maxLag") or failover.get("allowDataLoss"))


CLUSTER_RULES: Final = (
    Rule(
        name="cluster-name",
        path="",
        cel=f"self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= {NAME_LENGTH_MAX}",
        message=f"metadata.name is too long or no host name: pods and Services are named after it, so write at most {NAME_LENGTH_MAX}"
        " characters of a-z, 0-9 and '-', beginning with a letter",
        holds=lambda new, _: bool(
            re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", new["metadata"]["name"])
            and len(new["metadata"]["name"]) <= NAME_LENGTH_MAX
        ),
    ),
    Rule(
        name="cluster-mode-immutable",
        path="spec.mode",
        cel="self == oldSelf",
        message="mode cannot be changed: make a new MessageCluster with the other mode and move its clients there",
        holds=lambda new, old: new == old,
    ),
    Rule(
        name="cluster-shards",
        path="spec.shards",
        cel="self <= 1",
        message=unavailable("shards above 1", "write shards: 1 or leave it out"),
        holds=lambda new, _: new <= 1,
    ),
    Rule(
        name="cluster-replicas-odd",
        path="spec",
        cel="self.mode != 'Raft' || !has(self.replicas) || self.replicas in [1, 3, 5]",
        message="mode Raft needs an odd number of brokers, so that there is a majority: write replicas: 1, 3 or 5",
        holds=lambda new, _: new["mode"] != "Raft" or new.get("replicas", 1) in (1, 3, 5),
    ),
    Rule(
        name="cluster-replication",
        path="spec",
        cel="self.mode == 'MasterSlave' || !has(self.replication)",
        message="replication is for mode MasterSlave: leave it out, because in mode Raft a majority holds what is acknowledged",
        holds=lambda new, _: new["mode"] == "MasterSlave" or "replication" not in new,
    ),
    Rule(
        name="cluster-min-in-sync",
        path="spec",
        cel="!has(self.minInSync) || self.minInSync <= (has(self.replicas) ? self.replicas : 1)",
        message="minInSync is above replicas, so every write would be refused: write at most the number of replicas",
        holds=lambda new, _: new.get("minInSync", 1) <= new.get("replicas", 1),
    ),
    Rule(
        name="cluster-failover",
        path="spec",
        cel="self.mode == 'MasterSlave' || !has(self.failover) || !(has(self.failover.leaseDuration) || has(self.failover.renewInterval)"
        " || has(self.failover.maxLag) || has(self.failover.allowDataLoss))",
        message="failover.leaseDuration, renewInterval, maxLag and allowDataLoss are for mode MasterSlave: leave them out,"
        " or write electionTimeout, which is mode Raft's",
        holds=lambda new, _: (
            new["mode"] == "MasterSlave"
            or (new.get("failover") or {}).keys().isdisjoint(MASTER_SLAVE_FAILOVER)
        ),
    ),
    Rule(
        name="cluster-election-timeout",
        path="spec.failover",
        cel=f"!has(self.electionTimeout) || ({_simple_duration_cel('self.electionTimeout')}"
        " && duration(self.electionTimeout) >= duration('100ms') && duration(self.electionTimeout) <= duration('60s'))",
        message="failover.electionTimeout is too short, too long or in another unit: write 100ms to 60s, such as 1s or 500ms",
        holds=lambda new, _: _is_election_timeout(new.get("electionTimeout", ELECTION_TIMEOUT_DEFAULT)),
    ),
    Rule(
        name="cluster-election-timeout-mode",
        path="spec",
        cel="self.mode == 'Raft' || !has(self.failover) || !has(self.failover.electionTimeout)",
        message="failover.electionTimeout is mode Raft's: leave it out, because in mode MasterSlave leaseDuration says when another"
        " broker takes over",
        holds=lambda new, _: new["mode"] == "Raft" or "electionTimeout" not in (new.get("failover") or {}),
    ),
    Rule(
        name="cluster-lease-duration",
        path="spec.failover",
        cel=f"!has(self.leaseDuration) || ({_simple_duration_cel('self.leaseDuration')}"
        f" && duration(self.leaseDuration) >= duration('{LEASE_DURATION_MS_MIN}ms')"
        f" && duration(self.leaseDuration) <= duration('{LEASE_DURATION_MS_MAX}ms'))",
        message="failover.leaseDuration is too short, too long or in another unit: write 1s to 60s, such as 6s or 2500ms",
        holds=lambda new, _: _is_lease_duration(new.get("leaseDuration", LEASE_DURATION_DEFAULT)),
    ),
    Rule(
        name="cluster-renew-interval",
        path="spec.failover",
        # Where leaseDuration is refused, it is the only one to say so: nothing can be compared with it.
        cel=f"(has(self.leaseDuration) && !{_simple_duration_cel('self.leaseDuration')})"
        f" || ({_simple_duration_cel(_RENEW_CEL)} && duration({_RENEW_CEL}) >= duration('{RENEW_INTERVAL_MS_MIN}ms')"
        f" && duration({_RENEW_CEL}) + duration({_RENEW_CEL}) <= duration({_LEASE_CEL}))",
        message="failover.renewInterval does not fit failover.leaseDuration or is in another unit: write at least 100ms and at most half of"
        " leaseDuration, so that a lost renewal can be repeated",
        holds=lambda new, _: _fits_lease(
            new.get("renewInterval", RENEW_INTERVAL_DEFAULT), new.get("leaseDuration", LEASE_DURATION_DEFAULT)
        ),
    ),
    Rule(
        name="cluster-data-loss",
        path="spec",
        cel=f"(has(self.replication) && self.replication == 'async') || !has(self.failover) || !{_LOSS_CEL}",
        message="failover.maxLag and allowDataLoss are for replication: async: leave them out, because with replication: sync only a"
        " broker that holds everything acknowledged takes over",
        holds=lambda new, _: new.get("replication") == "async" or not _may_lose(new.get("failover") or {}),
    ),
    Rule(
        name="cluster-max-lag",
        path="spec.failover",
        cel="!has(self.maxLag) || self.maxLag == 0 || (has(self.allowDataLoss) && self.allowDataLoss)",
        message="failover.maxLag has no effect while nothing may be lost: write allowDataLoss: true, or leave maxLag out",
        holds=lambda new, _: not new.get("maxLag") or new.get("allowDataLoss") is True,
    ),
    Rule(
        name="cluster-tracing",
        path="spec.tracing",
        cel="has(self.endpoint) || (has(self.topic) && self.topic)",
        message="tracing.endpoint is missing, so nothing would be traced: write the collector's address, or topic: true, or leave"
        " tracing out",
        holds=lambda new, _: "endpoint" in new or new.get("topic") is True,
    ),
    Rule(
        name="cluster-tracing-endpoint",
        path="spec.tracing",
        cel=f"!has(self.endpoint) || self.endpoint.matches(r'^({_OTLP_URL})$')",
        message="tracing.endpoint is no address of a collector: write http:// or https://, a host and, where it is another than the"
        " scheme's, a port, such as http://collector:4318; names and passwords belong in headersSecret",
        holds=lambda new, _: "endpoint" not in new or re.fullmatch(_OTLP_URL, new["endpoint"]) is not None,
    ),
    Rule(
        name="cluster-tracing-headers-secret",
        path="spec.tracing",
        cel=f"!has(self.headersSecret) || self.headersSecret.matches(r'^({_OBJECT_NAME})$')",
        message="tracing.headersSecret is no name of a Secret: write the name of one in the same namespace, whose key headers holds"
        " lines 'name: value'",
        holds=lambda new, _: (
            "headersSecret" not in new or re.fullmatch(_OBJECT_NAME, new["headersSecret"]) is not None
        ),
    ),
    Rule(
        name="cluster-tracing-sampling",
        path="spec.tracing",
        cel="!has(self.sampling) || (self.sampling >= 0.0 && self.sampling <= 1.0)",
        message="tracing.sampling is a share of the batches: write a number from 0 to 1, such as 0.01 for one in a hundred",
        holds=lambda new, _: 0 <= new.get("sampling", 0) <= 1,
    ),
    Rule(
        name="cluster-storage-minimum",
        path="spec",
        cel=f"{_SIZE_CEL.format('self')}.compareTo(quantity('{STORAGE_SIZE_MIN}')) >= 0",
        message=f"storage.size is too small for the log's segments: write at least {STORAGE_SIZE_MIN}",
        holds=lambda new, _: _size(new) >= quantity_exact(STORAGE_SIZE_MIN),
    ),
    Rule(
        name="cluster-storage-shrink",
        path="spec",
        cel=f"{_SIZE_CEL.format('self')}.compareTo({_SIZE_CEL.format('oldSelf')}) >= 0",
        message="storage.size cannot shrink, because a volume cannot: write the old size or a bigger one",
        holds=lambda new, old: _size(new) >= _size(old),
    ),
    Rule(
        name="cluster-storage-class-immutable",
        path="spec",
        cel=f"{_CLASS_CEL.format('self')} == {_CLASS_CEL.format('oldSelf')}",
        message="storage.storageClassName cannot be changed: make a new MessageCluster on the other class and move its clients there",
        holds=lambda new, old: _storage_class(new) == _storage_class(old),
    ),
    Rule(
        name="cluster-listener-name",
        path="spec.listeners[*]",
        cel="!(self.name in ['http', 'admin', 'peer'])",
        message="a listener cannot be named http, admin or peer: these are the data API, the admin API and the way between brokers,"
        " so write another name",
        holds=lambda new, _: new["name"] not in (HTTP_LISTENER, ADMIN_LISTENER, PEER_LISTENER),
    ),
    Rule(
        name="cluster-listener-advertised-host",
        path="spec.listeners[*]",
        cel="!has(self.advertisedHost) || (has(self.type) && self.type == 'nodePort')",
        message="advertisedHost is for listeners of type nodePort: leave it out, or write type: nodePort",
        holds=lambda new, _: "advertisedHost" not in new or new.get("type") == "nodePort",
    ),
    Rule(
        name="cluster-listener-ports",
        path="spec",
        cel="!has(self.listeners) || self.listeners.all(l, self.listeners.exists_one(other, other.port == l.port))",
        message="two listeners have the same port: write a different port for each",
        holds=lambda new, _: len(set(_ports(new))) == len(_ports(new)),
    ),
    Rule(
        name="cluster-http-port",
        path="spec",
        cel=f"!({_HTTP_PORT_CEL} in [{ADMIN_PORT}, {PEER_PORT}]) && (has(self.listeners) ?"
        f" self.listeners.all(l, !(l.port in [{ADMIN_PORT}, {PEER_PORT}, {_HTTP_PORT_CEL}])) : {_HTTP_PORT_CEL} != {KAFKA_PORT_DEFAULT})",
        message=f"a port is taken twice: {ADMIN_PORT} is the admin API's, {PEER_PORT} the brokers' own and http.port"
        f" ({HTTP_PORT_DEFAULT}) the data API's, so write another port",
        holds=lambda new, _: (
            {ADMIN_PORT, PEER_PORT}.isdisjoint((_http_port(new), *_ports(new)))
            and _http_port(new) not in _ports(new)
        ),
    ),
    Rule(
        name="cluster-network-policy",
        path="spec.networkPolicy",
        cel="!has(self.adminFrom) || (has(self.enabled) && self.enabled)",
        message="networkPolicy.adminFrom has no effect without a policy: write enabled: true, or leave adminFrom out",
        holds=lambda new, _: "adminFrom" not in new or new.get("enabled") is True,
    ),
    Rule(
        name="cluster-pod-labels",
        path="spec.pod",
        cel="!has(self.labels) || self.labels.all(key, !key.startsWith('penstock.io/') && !key.startsWith('app.kubernetes.io/')"
        " && !key.startsWith('statefulset.kubernetes.io/'))",
        message="pod.labels holds a key that Penstock or Kubernetes sets itself: write keys outside penstock.io/, app.kubernetes.io/"
        " and statefulset.kubernetes.io/",
        holds=lambda new, _: not any(key.startswith(OWNED_LABEL_PREFIXES) for key in new.get("labels") or {}),
    ),
)
