"""What came of a pass for people who wished something by an annotation, and of actions that were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from penstock_operator.plan.actions import Action, HandOverAnswer, HandOverAsked, TrustAnswer, TrustMember
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError, Note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_operator.kube_errors import KubeError

Outcome = Literal["Done", "Refused", "Waiting"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An action that was refused: a problem for the user, the answer to somebody's wish, or only a delay."""

    reason: str
    message: str
    is_delay: bool = False
    wish: TrustMember | HandOverAsked | None = None

    @property
    def is_problem(self) -> bool:
        """Whether it stands in the way until the user solves it."""
        return not self.is_delay and self.wish is None


def refused_by_kubernetes(action: Action, error: KubeError) -> Failure:
    """The API server's own sentence; a disruption budget is only a matter of time."""
    if error.status == 429:
        message = f"{action.why}, but a disruption budget forbids it now: {error.message}"
        return Failure(reason="DisruptionBudget", message=message, is_delay=True)
    message = f"{action.why}, but Kubernetes refuses: {error.message}"
    return Failure(reason="RefusedByKubernetes", message=message, is_delay=action.incidental)


def refused_by_broker(action: Action, error: AdminError) -> Failure:
    """The broker's own sentence. A leader that changed meanwhile, or that cannot hand over now, is asked again later."""
    message = f"{action.why}, but the broker refuses: {error.detail}"
    if isinstance(action, TrustMember):
        return Failure(reason="TrustRefused", message=message, is_delay=error.status >= 500, wish=action)
    if isinstance(action, HandOverAsked):
        return Failure(reason="HandOverRefused", message=message, is_delay=error.is_not_leader, wish=action)
    delay = action.disruptive or error.is_not_leader
    return Failure(reason="InvalidConfiguration", message=message, is_delay=delay)


def unreachable(action: Action, error: AdminUnreachableError) -> Failure | None:
    """Nothing is known of what came of it: what disturbs nobody is simply repeated."""
    if not action.disruptive:
        return None
    message = f"{action.why}, but {error}"
    return Failure(reason="BrokerUnreachable", message=message, is_delay=True)


def trust_answer(done: Sequence[Action], failures: Sequence[Failure]) -> TrustAnswer | None:
    """What came of the wish to trust a broker in this pass."""
    for action, outcome, message in _wishes(done, failures):
        if isinstance(action, TrustMember):
            return TrustAnswer(pod=action.pod, outcome=outcome, message=message)
    return None


def hand_over_answer(done: Sequence[Action], failures: Sequence[Failure]) -> HandOverAnswer | None:
    """What came of the wish to hand over in this pass."""
    for action, outcome, message in _wishes(done, failures):
        if isinstance(action, HandOverAsked):
            return HandOverAnswer(value=action.value, outcome=outcome, message=message)
    return None


def hand_over_note(done: Sequence[Action], status: dict[str, Any], old: dict[str, Any]) -> list[Note]:
    """The answer to the wish to hand over, once; that it was carried out is told as every hand-over is."""
    answer = status.get("handOver")
    if answer is None or answer == old.get("handOver"):
        return []
    if answer["outcome"] == "Done":
        if any(isinstance(action, HandOverAsked) for action in done):
            return []
        return [Note(type="Normal", reason="HandOver", message=answer["message"])]
    return [Note(type="Warning", reason="HandOverRefused", message=answer["message"])]


def _wishes(
    done: Sequence[Action], failures: Sequence[Failure]
) -> list[tuple[TrustMember | HandOverAsked, Outcome, str]]:
    wishes: list[tuple[TrustMember | HandOverAsked, Outcome, str]] = [
        (action, "Done", action.why) for action in done if isinstance(action, TrustMember | HandOverAsked)
    ]
    wishes += [
        (failure.wish, "Waiting" if failure.is_delay else "Refused", failure.message)
        for failure in failures
        if failure.wish is not None
    ]
    return wishes
