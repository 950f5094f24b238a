"""`/v1/config`: the broker's settings, where their values come from, and changing the dynamic ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.admin.models import ConfigChanges, ConfigOption, ConfigTable
from penstock.admin.topics import config_operations
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.service.api import ConfigEntry
    from penstock.service.context import RequestContext

CONFIG = "/v1/config"
SOURCE_DEFAULT = "default"


class ConfigRoutes:
    """The table of settings."""

    def __init__(self, services: HttpServices) -> None:
        self._topics = services.topics

    def routes(self) -> Routes:
        """Both routes."""
        table: Route[NoQuery, NoBody] = Route(
            "GET",
            CONFIG,
            "getConfig",
            "Every setting with its value, default and source.",
            self.get,
            {200: ConfigTable},
            NoQuery,
            NoBody,
            # Half of it is this broker's own file.
            local=True,
        )
        change: Route[NoQuery, ConfigChanges] = Route(
            "PATCH",
            CONFIG,
            "changeConfig",
            "Changes dynamic settings; null falls back to the configuration file.",
            self.change,
            {200: ConfigTable},
            NoQuery,
            ConfigChanges,
        )
        return [table, change]

    async def get(self, call: Call[NoQuery, NoBody]) -> Reply:
        """The table."""
        return Reply(self._table(call.context))

    async def change(self, call: Call[NoQuery, ConfigChanges]) -> Reply:
        """Changes all of the named settings or none; 400 INVALID_CONFIG for a static one, with what to do."""
        operations = config_operations(call.body)
        if operations:
            await self._topics.alter_broker_config(call.context, operations)
        return Reply(self._table(call.context))

    def _table(self, context: RequestContext) -> ConfigTable:
        return ConfigTable([_option(entry) for entry in self._topics.describe_broker_config(context)])


def _option(entry: ConfigEntry) -> ConfigOption:
    default = entry.value if entry.source == SOURCE_DEFAULT else None
    for _, value, source in entry.synonyms:
        if source == SOURCE_DEFAULT:
            default = value
    return ConfigOption(
        name=entry.name,
        value=None if entry.sensitive else entry.value,
        default=default,
        source=entry.source,
        dynamic=not entry.read_only,
        type=entry.type,
        doc=entry.doc,
    )
