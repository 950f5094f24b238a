"""`/v1/tracing/rules`: messages that are followed for a while, whatever the ratio is.

The rules are one dynamic setting of the cluster (`tracing.rules`), so that they outlive a leader. This writes it: rules are
changed by the leader alone, one change after the other.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.admin.models import TraceRule, TraceRuleRequest, TraceRules
from penstock.listeners.http.problems import invalid
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes
from penstock.service.api import ConfigOperation
from penstock.tracing.rules import Rule, RuleError, living, parse_rules, with_rule, write_rules

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.service.context import RequestContext

RULES = "/v1/tracing/rules"
RULE = "/v1/tracing/rules/{rule}"
SETTING = "tracing.rules"
ENDPOINT = "tracing.endpoint"
TOPIC = "tracing.topic.enabled"


class TracingRoutes:
    """The rules."""

    def __init__(self, services: HttpServices) -> None:
        self._topics = services.topics
        self._changing = asyncio.Lock()

    def routes(self) -> Routes:
        """The three routes."""
        listing: Route[NoQuery, NoBody] = Route(
            "GET",
            RULES,
            "listTraceRules",
            "The rules whose time is not over.",
            self.list,
            {200: TraceRules},
            NoQuery,
            NoBody,
        )
        addition: Route[NoQuery, TraceRuleRequest] = Route(
            "POST",
            RULES,
            "addTraceRule",
            "Follows messages by id or by a pattern of keys for a while. Only a batch's first message is looked at.",
            self.add,
            {201: TraceRule},
            NoQuery,
            TraceRuleRequest,
        )
        deletion: Route[NoQuery, NoBody] = Route(
            "DELETE", RULE, "deleteTraceRule", "Ends a rule.", self.delete, {204: None}, NoQuery, NoBody
        )
        return [listing, addition, deletion]

    async def list(self, call: Call[NoQuery, NoBody]) -> Reply:
        """The living rules."""
        return Reply(TraceRules([_shown(rule) for rule in self._living(call.context)]))

    async def add(self, call: Call[NoQuery, TraceRuleRequest]) -> Reply:
        """One more rule; 400 where nothing is traced, where it names nothing, or where there are too many."""
        asked = call.body
        if not self._value(call.context, ENDPOINT) and self._value(call.context, TOPIC) != "true":
            raise invalid(f"this cluster traces nothing: set {ENDPOINT} or {TOPIC} first")
        now_ms = _now_ms()
        rule = Rule(
            secrets.token_hex(8), now_ms + asked.seconds * 1000, asked.topic, asked.message_id, asked.key
        )
        async with self._changing:
            try:
                rules = with_rule(self._living(call.context), rule, now_ms)
            except RuleError as error:
                raise invalid(str(error)) from error
            await self._write(call.context, rules)
        return Reply(_shown(rule), status=201)

    async def delete(self, call: Call[NoQuery, NoBody]) -> Reply:
        """Ends a rule; 404 when there is none."""
        async with self._changing:
            rules = self._living(call.context)
            kept = tuple(rule for rule in rules if rule.id != call.path["rule"])
            if len(kept) == len(rules):
                raise invalid(f"there is no rule {call.path['rule']}", status=404)
            await self._write(call.context, kept)
        return Reply(status=204)

    def _living(self, context: RequestContext) -> tuple[Rule, ...]:
        return living(parse_rules(self._value(context, SETTING)), _now_ms())

    def _value(self, context: RequestContext, name: str) -> str:
        settings = self._topics.describe_broker_config(context)
        return next((entry.value or "" for entry in settings if entry.name == name), "")

    async def _write(self, context: RequestContext, rules: tuple[Rule, ...]) -> None:
        # Without a rule there is nothing to set: the setting falls back to its default.
        text = write_rules(rules)
        change = ConfigOperation(SETTING, "set" if text else "delete", text or None)
        await self._topics.alter_broker_config(context, [change])


def _shown(rule: Rule) -> TraceRule:
    ends = datetime.fromtimestamp(rule.expires_at_ms / 1000, UTC)
    return TraceRule(rule.id, ends, rule.topic, rule.message_id, rule.key)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
