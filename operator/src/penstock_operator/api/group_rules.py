"""Rules of `ConsumerGroup`. The notation is explained in `rules`."""

from __future__ import annotations

from typing import Any, Final

from penstock_operator.api.rules import Rule, unavailable

_NAME_CEL = "(has({0}.spec.groupName) ? {0}.spec.groupName : {0}.metadata.name)"
_MODE_CEL = "(has({0}.mode) ? {0}.mode : 'stream')"
_ONE_POSITION_CEL = "(has(self.at) ? 1 : 0) + (has(self.timestamp) ? 1 : 0) + (has(self.offset) ? 1 : 0) == 1"


def _name(resource: dict[str, Any]) -> str:
    name: str = resource["spec"].get("groupName") or resource["metadata"]["name"]
    return name


def _one_position(new: dict[str, Any], _: Any) -> bool:
    return sum(field in new for field in ("at", "timestamp", "offset")) == 1


def _absent(field: str) -> Any:
    return lambda new, _: field not in new


GROUP_RULES: Final = (
    Rule(
        name="group-name-immutable",
        path="",
        cel=f"{_NAME_CEL.format('self')} == {_NAME_CEL.format('oldSelf')}",
        message="groupName cannot be changed: make a new ConsumerGroup with the other name",
        holds=lambda new, old: _name(new) == _name(old),
    ),
    Rule(
        name="group-cluster-immutable",
        path="spec.clusterRef",
        cel="self.name == oldSelf.name",
        message="clusterRef cannot be changed: make a new ConsumerGroup for the other MessageCluster",
        holds=lambda new, old: new["name"] == old["name"],
    ),
    Rule(
        name="group-mode-immutable",
        path="spec",
        cel=f"{_MODE_CEL.format('self')} == {_MODE_CEL.format('oldSelf')}",
        message="mode cannot be changed: make a new ConsumerGroup with the other mode",
        holds=lambda new, old: new.get("mode", "stream") == old.get("mode", "stream"),
    ),
    Rule(
        name="group-mode",
        path="spec.mode",
        cel="!(self in ['queue', 'broadcast'])",
        message=unavailable("mode: queue or broadcast", "write mode: stream or leave it out"),
        holds=lambda new, _: new not in ("queue", "broadcast"),
    ),
    Rule(
        name="group-start",
        path="spec.start",
        cel=_ONE_POSITION_CEL,
        message="start needs exactly one place: write one of at, timestamp or offset",
        holds=_one_position,
    ),
    Rule(
        name="group-reset",
        path="spec.reset",
        cel=_ONE_POSITION_CEL,
        message="reset needs exactly one place: write one of at, timestamp or offset, and a token",
        holds=_one_position,
    ),
    Rule(
        name="group-retry",
        path="spec",
        cel="!has(self.retry)",
        message=unavailable("retry", "leave it out"),
        holds=_absent("retry"),
    ),
    Rule(
        name="group-dead-letter",
        path="spec",
        cel="!has(self.deadLetter)",
        message=unavailable("deadLetter", "leave it out"),
        holds=_absent("deadLetter"),
    ),
    Rule(
        name="group-lease",
        path="spec",
        cel="!has(self.lease)",
        message=unavailable("lease", "leave it out"),
        holds=_absent("lease"),
    ),
    Rule(
        name="group-ordering",
        path="spec.ordering",
        cel="self != 'key'",
        message=unavailable("ordering: key", "write ordering: none or leave it out"),
        holds=lambda new, _: new != "key",
    ),
    Rule(
        name="group-filter",
        path="spec",
        cel="!has(self.filter)",
        message=unavailable("filter", "leave it out"),
        holds=_absent("filter"),
    ),
)
