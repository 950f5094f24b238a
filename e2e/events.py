"""Events as scenarios look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kube import Kube


def told(kube: Kube, *reasons: str) -> list[dict[str, Any]]:
    """Events about clusters in the order in which they came last, all or those with one of these reasons."""
    events = [
        event
        for event in kube.items("events")
        if event["involvedObject"]["kind"] == "MessageCluster" and (not reasons or event["reason"] in reasons)
    ]
    return sorted(events, key=moment)


def moment(event: dict[str, Any]) -> str:
    """When an Event came last, as RFC 3339."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
