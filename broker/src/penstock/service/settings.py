"""What settings mean for a topic and for the broker: file, dynamic and topic values, parsed and cached.

The catalog's revision tells when a cached answer is stale.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.catalog.topics import Catalog
from penstock.config.broker_options import BROKER_OPTIONS
from penstock.config.options import Option, Value
from penstock.config.topic_options import OWN_TOPICS, TOPIC_OPTIONS, broker_default
from penstock.replication.leaving import Demand
from penstock.service.api import ConfigEntry
from penstock.tracing.rules import Rule, parse_rules
from penstock.tracing.sampling import ratio_bound


class TopicSettings(msgspec.Struct, frozen=True):
    """A topic's effective settings, as the data path needs them. -1 retention means no bound; `trace_bound` is the sampling
    ratio as `penstock.tracing.sampling` wants it, `trace_rules` are those that may name the topic's messages, and
    `trace_rules_change` counts changes of all rules. `own`: the broker's own topic, to which clients do not write."""

    max_message_bytes: int
    log_append_time: bool
    retention_ms: int
    retention_bytes: int
    min_in_sync: int
    traced: bool
    trace_bound: int
    trace_rules: tuple[Rule, ...]
    trace_rules_change: int
    own: bool


class Settings:
    """The broker's file settings under the catalog's dynamic ones, and topics' own over both."""

    def __init__(self, catalog: Catalog, file_values: Mapping[str, Value]) -> None:
        self._catalog = catalog
        self._file = dict(file_values)
        self._revision = -1
        self._topics: dict[str, TopicSettings] = {}
        self._dynamic: dict[str, Value] = {}
        self._demand: Demand | None = None
        self._rules: tuple[Rule, ...] = ()
        self._rules_change = 0

    def broker(self, name: str) -> Value:
        """The value that counts for the broker now."""
        self._refresh()
        value = self._dynamic.get(name)
        if value is None:
            value = self._file.get(name)
        if value is None:
            value = BROKER_OPTIONS[name].default
        assert value is not None
        return value

    def integer(self, name: str) -> int:
        """An int or long setting."""
        value = self.broker(name)
        assert isinstance(value, int)
        return value

    def topic(self, name: str) -> TopicSettings:
        """The topic's effective settings (the defaults for one that does not exist)."""
        self._refresh()
        settings = self._topics.get(name)
        if settings is None:
            settings = self._topics[name] = self._effective(name)
        return settings

    def demand(self) -> Demand:
        """The most copies in sync that writes to any topic need."""
        self._refresh()
        if self._demand is None:
            found = Demand(self.integer("min.insync.replicas"))
            for name, topic in self._catalog.topics.committed.items():
                # Others go by the cluster's setting; there may be many.
                if "min.insync.replicas" in topic.config:
                    copies = self.topic(name).min_in_sync
                    found = Demand(copies, name) if copies > found.copies else found
            self._demand = found
        return self._demand

    def _refresh(self) -> None:
        if self._revision != self._catalog.revision:
            self._revision = self._catalog.revision
            self._topics.clear()
            self._demand = None
            self._dynamic = BROKER_OPTIONS.parse(self._catalog.cluster_config)
            rules = parse_rules(
                str(self._dynamic.get("tracing.rules") or self._file.get("tracing.rules", ""))
            )
            if rules != self._rules:
                self._rules = rules
                self._rules_change += 1

    def _effective(self, name: str) -> TopicSettings:
        topic = self._catalog.topics.get(name)
        own = TOPIC_OPTIONS.parse(topic.config) if topic is not None else {}

        def value(option: str) -> Value:
            if option in own:
                return own[option]
            default = broker_default(name, option)
            assert default is not None
            return self.broker(default)

        return TopicSettings(
            max_message_bytes=int(value("max.message.bytes")),
            log_append_time=value("message.timestamp.type") == "LogAppendTime",
            retention_ms=int(value("retention.ms")),
            retention_bytes=int(value("retention.bytes")),
            min_in_sync=int(value("min.insync.replicas")),
            traced=name not in OWN_TOPICS and bool(own.get("penstock.tracing", True)),
            trace_bound=ratio_bound(float(value("penstock.tracing.sampling"))),
            trace_rules=tuple(rule for rule in self._rules if rule.topic in ("", name)),
            trace_rules_change=self._rules_change,
            own=name in OWN_TOPICS,
        )

    # --- descriptions ----------------------------------------------------------------------------

    def describe_broker(self) -> list[ConfigEntry]:
        """Every broker setting with its value and where it comes from."""
        self._refresh()
        return [self._broker_entry(option) for option in BROKER_OPTIONS.options.values()]

    def _broker_entry(self, option: Option) -> ConfigEntry:
        synonyms = self._broker_synonyms(option)
        _, value, source = synonyms[0]
        return ConfigEntry(
            name=option.name,
            value=value,
            source=source,
            type=option.type,
            doc=option.doc,
            read_only=not option.dynamic,
            synonyms=synonyms,
        )

    def _broker_synonyms(self, option: Option) -> list[tuple[str, str | None, str]]:
        found: list[tuple[str, str | None, str]] = []
        if option.name in self._dynamic:
            found.append((option.name, option.show(self._dynamic[option.name]), "dynamic"))
        if option.name in self._file:
            found.append((option.name, option.show(self._file[option.name]), "file"))
        found.append((option.name, option.show(option.default), "default"))
        return found

    def describe_topic(self, name: str, config: Mapping[str, str]) -> list[ConfigEntry]:
        """Every setting of a topic with its value and where it comes from; `config` is what the topic sets."""
        self._refresh()
        entries = []
        for option in TOPIC_OPTIONS.options.values():
            synonyms: list[tuple[str, str | None, str]] = []
            if option.name in config:
                synonyms.append((option.name, config[option.name], "topic"))
            broker_name = broker_default(name, option.name)
            if broker_name is not None:
                synonyms.extend(self._broker_synonyms(BROKER_OPTIONS[broker_name]))
            else:
                synonyms.append((option.name, option.show(option.default), "default"))
            _, value, source = synonyms[0]
            entries.append(
                ConfigEntry(
                    name=option.name,
                    value=value,
                    source=source,
                    type=option.type,
                    doc=option.doc,
                    synonyms=synonyms,
                )
            )
        return entries
