"""What is particular to ConsumerGroups in a pass."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from penstock_operator.api.group import ConsumerGroup, ResetStatus
from penstock_operator.api.names import FINALIZER_GROUP
from penstock_operator.plan.dependents import Verdict
from penstock_operator.plan.group import ResetGroup, group_facts, plan_group, reset_message
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError, BrokerAdmin
from penstock_operator.snapshot.dependents import GroupSeen, parse_group

logger = logging.getLogger(__name__)

STEPS_MAX: Final = 4  # declare, reset, look
RESYNC_S: Final = 5.0  # members, lag and state are at most ten seconds old


class GroupDependent:
    """Consumer groups: see `dependents.Dependent`."""

    finalizer = FINALIZER_GROUP
    resync_s = RESYNC_S

    def decode(self, resource: dict[str, Any]) -> ConsumerGroup:
        """The typed resource. Raises msgspec.ValidationError."""
        return msgspec.convert(resource, ConsumerGroup)

    async def settle(self, resource: ConsumerGroup, admin: BrokerAdmin) -> Verdict:
        """Declare and reset until the broker's group is what the spec says."""
        done: dict[str, Any] = {}
        why = ""
        told = False
        for _ in range(STEPS_MAX):
            seen = await _look(resource, admin)
            action = plan_group(resource, seen, told)
            if action is None:
                assert seen is not None  # a missing group always has a plan
                facts, message = group_facts(resource, seen)
                return Verdict(ready=True, reason="GroupReady", message=message, facts={**facts, **done})
            why = action.why
            logger.info("acting", extra={"object": resource.wire_name, "why": why})
            if not isinstance(action, ResetGroup):
                try:
                    await admin.declare_group(resource.wire_name, action.declaration)
                except AdminError as error:
                    if error.code != "UNKNOWN_TOPIC_OR_PARTITION":
                        raise
                    # Usual when a Topic and its group are applied together: the group waits for the topic.
                    message = f"waits for its topics: {error.detail}"
                    return Verdict(ready=False, reason="TopicNotFound", message=message, progressing=True)
                told = True
                continue
            try:
                answer = await admin.reset_group(resource.wire_name, action.to, action.force)
            except AdminError as error:
                return _reset_refused(resource, seen, error)
            reset = ResetStatus(token=action.token, message=reset_message(answer))
            done["reset"] = msgspec.to_builtins(reset)
            status = msgspec.structs.replace(resource.status, reset=reset)
            resource = msgspec.structs.replace(resource, status=status)
        return Verdict(
            ready=False,
            reason="NotConverging",
            message=f"the broker accepts the change but does not make it: {why}",
        )

    async def delete(self, resource: ConsumerGroup, admin: BrokerAdmin) -> None:
        """Delete the group with its offsets."""
        await admin.delete_group(resource.wire_name)


def _reset_refused(resource: ConsumerGroup, seen: GroupSeen | None, error: AdminError) -> Verdict:
    """The group works; only the reset waits, usually for members to leave."""
    facts = group_facts(resource, seen)[0] if seen is not None else None
    message = f"the reset is refused and will be tried again: {error.detail}"
    if error.code == "NON_EMPTY_GROUP":
        message += "; stop the group's consumers or write force: true"
    return Verdict(ready=False, reason="ResetRefused", message=message, facts=facts)


async def _look(resource: ConsumerGroup, admin: BrokerAdmin) -> GroupSeen | None:
    answer = await admin.group(resource.wire_name)
    try:
        return None if answer is None else parse_group(answer)
    except ValueError as error:
        raise AdminUnreachableError(str(error)) from error
