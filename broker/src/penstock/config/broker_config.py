"""The broker's configuration: file and command line together, checked once, with a sentence for each mistake."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from penstock.config.broker_options import BROKER_OPTIONS
from penstock.config.options import OptionError, Value

PROTOCOLS = ("kafka", "http", "admin", "peer")
DEFAULT_LISTENERS = {"kafka": "127.0.0.1:9092", "http": "127.0.0.1:8080", "admin": "127.0.0.1:8081"}
LISTENERS_MAX = 32
# Of mode MasterSlave alone.
LEASE_OPTIONS = (
    "lease.name", "lease.file", "lease.duration.ms", "lease.renew.interval.ms", "failover.allow.data.loss",
    "failover.max.lag",
)  # fmt: skip


class ConfigError(ValueError):
    """The configuration cannot be used; the text is a sentence that says what to write."""


class Listener(msgspec.Struct, frozen=True):
    """A socket to listen on. `advertise` is the (host, port) that clients are told; None: what it listens on."""

    name: str
    protocol: str
    host: str
    port: int
    advertise: tuple[str, int] | None = None


class BrokerConfig(msgspec.Struct, frozen=True):
    """Everything that is settled before the broker starts. `values` holds parsed settings of the file."""

    data: Path
    listeners: tuple[Listener, ...]
    values: Mapping[str, Value]
    ready_file: Path | None = None
    peers: Mapping[int, tuple[str, int]] = {}

    def value(self, name: str) -> Value:
        """The file's value, or the default."""
        value = self.values.get(name, BROKER_OPTIONS[name].default)
        assert value is not None
        return value

    def integer(self, name: str) -> int:
        """An int or long setting."""
        return int(self.value(name))

    def text(self, name: str) -> str:
        """A string setting."""
        return str(self.value(name))

    @property
    def peer_listener(self) -> Listener | None:
        """Where other brokers of the shard come in; None for a broker that is alone."""
        return next((listener for listener in self.listeners if listener.protocol == "peer"), None)


def load_config(
    data: Path,
    *,
    config_file: Path | None = None,
    listen: Sequence[str] = (),
    advertise: Sequence[str] = (),
    ready_file: Path | None = None,
) -> BrokerConfig:
    """What `penstock broker` runs with. Raises ConfigError."""
    content = _read(config_file) if config_file is not None else {}
    declared = _declared(content.pop("listeners", None))
    try:
        values = BROKER_OPTIONS.parse({str(name): value for name, value in content.items()})
    except OptionError as error:
        raise ConfigError(f"{config_file}: {error}") from error
    if "pod.uid" in values:
        values["pod.uid"] = _filled_in(str(values["pod.uid"]), "pod.uid")
    _check_shard_uid(str(values.get("shard.uid", "")))
    listeners = _listeners(declared, listen)
    peers = _peers(str(values.get("shard.peers", "")))
    config = BrokerConfig(data, _advertised(listeners, advertise), values, ready_file, peers)
    _check_shard(config)
    _check_mode(config)
    _check_tracing(config.text("tracing.endpoint"))
    return config


def _peers(text: str) -> dict[int, tuple[str, int]]:
    peers: dict[int, tuple[str, int]] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        ordinal, separator, address = item.partition("=")
        if not separator or not ordinal.isdigit() or int(ordinal) in peers:
            raise ConfigError(f"shard.peers is a list like 0=HOST:PORT,1=HOST:PORT, not {text!r}")
        peers[int(ordinal)] = parse_address(address)
    return peers


def _check_shard(config: BrokerConfig) -> None:
    replicas, ordinal = config.integer("replicas"), config.integer("broker.ordinal")
    if sum(listener.protocol == "peer" for listener in config.listeners) > 1:
        raise ConfigError("a broker has one listener of protocol peer at most")
    if replicas == 1 and not config.peers:
        return
    for name in ("shard.uid", "cluster.id"):
        if not config.text(name):
            raise ConfigError(
                f"{name} must be set where a shard has several brokers: the same value for all of them"
            )
    if config.peers.keys() != set(range(replicas)):
        raise ConfigError(
            f"shard.peers must name the brokers 0 to {replicas - 1}, one address each, because replicas is {replicas}"
        )
    if ordinal >= replicas:
        raise ConfigError(f"broker.ordinal is {ordinal}, but the shard has brokers 0 to {replicas - 1}")
    if replicas > 1 and config.peer_listener is None:
        raise ConfigError(
            "several replicas need a listener of protocol peer, like --listen peer=0.0.0.0:9093"
        )


def _check_mode(config: BrokerConfig) -> None:
    if config.text("mode") == "Raft":
        strangers = [name for name in LEASE_OPTIONS if name in config.values]
        if strangers:
            raise ConfigError(
                f"{', '.join(strangers)} belongs to mode MasterSlave: leave it out, or write mode: MasterSlave"
            )
        return
    if bool(config.text("lease.name")) == bool(config.text("lease.file")):
        raise ConfigError(
            "mode MasterSlave needs to know where the shard's Lease is: set lease.name in a pod, or lease.file outside"
            " Kubernetes, and not both"
        )
    duration_ms, interval_ms = config.integer("lease.duration.ms"), config.integer("lease.renew.interval.ms")
    if interval_ms > duration_ms // 2:
        raise ConfigError(
            f"lease.renew.interval.ms is {interval_ms}: set at most half of lease.duration.ms ({duration_ms}), so that a lost"
            " renewal can be repeated"
        )


def _check_tracing(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if endpoint and not (usable and not parts.query and not parts.fragment and not parts.username):
        raise ConfigError(
            f"tracing.endpoint is a base URL like http://collector:4318, without user, query or fragment, not {endpoint!r}"
        )


def _check_shard_uid(text: str) -> None:
    try:
        if text:
            uuid.UUID(text)
    except ValueError as error:
        raise ConfigError(f"shard.uid is a UUID such as {uuid.UUID(int=0)}, not {text!r}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"the configuration file {path} must be a map of settings, like `log.retention.ms: 86400000`"
        )
    return content


class _Declared(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    protocol: str
    bind: str
    advertise: str | None = None


def _declared(content: Any) -> list[Listener]:
    if content is None:
        return []
    try:
        items = msgspec.convert(content, list[_Declared])
    except msgspec.ValidationError as error:
        raise ConfigError(f"listeners: {error}; each is {{name, protocol, bind, advertise}}") from error
    listeners = []
    for item in items:
        if item.protocol not in PROTOCOLS:
            raise ConfigError(
                f"listener {item.name}: protocol is one of {', '.join(PROTOCOLS)}, not {item.protocol!r}"
            )
        host, port = parse_address(item.bind)
        advertised = (
            parse_address(_filled_in(item.advertise, "the advertised address")) if item.advertise else None
        )
        listeners.append(Listener(item.name, item.protocol, host, port, advertised))
    return listeners


def _filled_in(text: str, what: str) -> str:
    """`$(NAME)` in it is the environment's, as in a pod's arguments: no file knows a pod's node or UID."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ConfigError(f"{what} {text} needs the environment variable {match[1]}")
        return f"[{found}]" if ":" in found else found

    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", value, text)


def _listeners(declared: list[Listener], listen: Sequence[str]) -> list[Listener]:
    by_name = {listener.name: listener for listener in declared}
    if len(by_name) != len(declared):
        raise ConfigError("listeners: each needs a name of its own")
    for argument in listen:
        name, address = _named(argument, "--listen")
        host, port = parse_address(address)
        known = by_name.get(name)
        if known is None and name not in PROTOCOLS:
            raise ConfigError(
                f"--listen {argument}: {name} is neither kafka, http, admin or peer nor a listener of the configuration file"
            )
        protocol = known.protocol if known is not None else name
        by_name[name] = Listener(name, protocol, host, port, known.advertise if known is not None else None)
    if not by_name:
        for name, address in DEFAULT_LISTENERS.items():
            by_name[name] = Listener(name, name, *parse_address(address))
    if len(by_name) > LISTENERS_MAX:
        raise ConfigError(f"a broker has at most {LISTENERS_MAX} listeners")
    return list(by_name.values())


def _advertised(listeners: list[Listener], advertise: Sequence[str]) -> tuple[Listener, ...]:
    addresses = {}
    for argument in advertise:
        name, address = _named(argument, "--advertise")
        addresses[name] = parse_address(address)
    unknown = addresses.keys() - {listener.name for listener in listeners if listener.protocol == "kafka"}
    if unknown:
        raise ConfigError(
            f"--advertise names {', '.join(sorted(unknown))}, which is no Kafka listener of this broker"
        )
    return tuple(
        msgspec.structs.replace(listener, advertise=addresses.get(listener.name, listener.advertise))
        for listener in listeners
    )


def _named(argument: str, option: str) -> tuple[str, str]:
    name, separator, address = argument.partition("=")
    if not separator or not name:
        raise ConfigError(f"{option} takes NAME=HOST:PORT, like kafka=127.0.0.1:9092, not {argument!r}")
    return name, address


def parse_address(address: str) -> tuple[str, int]:
    """`127.0.0.1:9092` or `[::1]:9092` as (host, port). Raises ConfigError."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"an address is HOST:PORT with a port up to 65535, not {address!r}")
    return host, int(port)
