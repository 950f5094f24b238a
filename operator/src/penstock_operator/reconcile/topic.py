"""What is particular to Topics in a pass."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from penstock_operator.api.names import FINALIZER_TOPIC
from penstock_operator.api.topic import Topic
from penstock_operator.plan.dependents import Verdict
from penstock_operator.plan.topic import CreateTopic, plan_topic, topic_facts
from penstock_operator.reconcile.ports import RESYNC_DEFAULT_S, AdminUnreachableError, BrokerAdmin
from penstock_operator.snapshot.dependents import TopicSeen, parse_topic

logger = logging.getLogger(__name__)

STEPS_MAX: Final = 3  # create, alter, look: more means that the broker does not do what it says


class TopicDependent:
    """Topics: see `dependents.Dependent`."""

    finalizer = FINALIZER_TOPIC

    def __init__(self, resync_s: float = RESYNC_DEFAULT_S) -> None:
        self.resync_s = resync_s

    def decode(self, resource: dict[str, Any]) -> Topic:
        """The typed resource. Raises msgspec.ValidationError."""
        return msgspec.convert(resource, Topic)

    async def settle(self, resource: Topic, admin: BrokerAdmin) -> Verdict:
        """Create or alter until the broker's topic is what the spec says."""
        why = ""
        for _ in range(STEPS_MAX):
            seen = await _look(resource, admin)
            action = plan_topic(resource, seen)
            if action is None:
                assert seen is not None  # a missing topic always has a plan
                facts, message = topic_facts(resource, seen)
                return Verdict(ready=True, reason="TopicReady", message=message, facts=facts)
            why = action.why
            logger.info("acting", extra={"object": resource.wire_name, "why": why})
            if isinstance(action, CreateTopic):
                await admin.create_topic(resource.wire_name, action.partitions, action.config)
            else:
                await admin.alter_topic(resource.wire_name, action.partitions, action.config)
        return Verdict(
            ready=False,
            reason="NotConverging",
            message=f"the broker accepts the change but does not make it: {why}",
        )

    async def delete(self, resource: Topic, admin: BrokerAdmin) -> None:
        """Delete the topic with its messages."""
        await admin.delete_topic(resource.wire_name)


async def _look(resource: Topic, admin: BrokerAdmin) -> TopicSeen | None:
    answer = await admin.topic(resource.wire_name)
    try:
        return None if answer is None else parse_topic(answer)
    except ValueError as error:
        raise AdminUnreachableError(str(error)) from error
