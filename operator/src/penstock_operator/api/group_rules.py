"""Rules of `ConsumerGroup`. The notation is explained in `rules`."""

from __future__ import annotations

import re
from typing import Any, Final

from penstock_operator.api.group import DEAD_LETTER_SUFFIX, RETRY_INITIAL_DEFAULT, RETRY_MAX_DEFAULT
from penstock_operator.api.rules import Rule, unavailable
from penstock_operator.api.units import duration_ms

LEASE_MS_MIN: Final = 1
LEASE_MS_MAX: Final = 12 * 3_600_000
DELAY_MS_MAX: Final = 24 * 3_600_000
"""As the broker has them: what it would refuse is refused here first."""

_NAME_CEL = "(has({0}.spec.groupName) ? {0}.spec.groupName : {0}.metadata.name)"
_MODE_CEL = "(has({0}.mode) ? {0}.mode : 'stream')"
_ONE_POSITION_CEL = "(has(self.at) ? 1 : 0) + (has(self.timestamp) ? 1 : 0) + (has(self.offset) ? 1 : 0) == 1"
_DEAD_TOPIC_CEL = f"(has(self.spec.deadLetter) ? self.spec.deadLetter.topicName : {_NAME_CEL.format('self')} + '{DEAD_LETTER_SUFFIX}')"
_TOPIC_NAME = "[a-zA-Z0-9._-]{1,249}"
_INITIAL_CEL = f"(has(self.initial) ? self.initial : '{RETRY_INITIAL_DEFAULT}')"
_MAX_CEL = f"(has(self.max) ? self.max : '{RETRY_MAX_DEFAULT}')"

# What both CEL and we read as the same whole number of milliseconds; CEL knows no days, and no number is too long for it.
_PLAIN_DURATION = r"([0-9]{1,8}ms|[0-9]{1,5}([.][0-9]{1,3})?[smh])+"


def _plain_duration_cel(value: str) -> str:
    return f"{value}.matches('^{_PLAIN_DURATION}$')"


def _within_cel(value: str, least_ms: int, most_ms: int) -> str:
    return (
        f"{_plain_duration_cel(value)} && duration({value}) >= duration('{least_ms}ms')"
        f" && duration({value}) <= duration('{most_ms}ms')"
    )


def _is_plain(text: str) -> bool:
    return re.fullmatch(_PLAIN_DURATION, text) is not None


def _is_within(text: str, least_ms: int, most_ms: int) -> bool:
    return _is_plain(text) and least_ms <= duration_ms(text) <= most_ms


def _rises(backoff: dict[str, Any]) -> bool:
    initial, longest = backoff.get("initial", RETRY_INITIAL_DEFAULT), backoff.get("max", RETRY_MAX_DEFAULT)
    if not _is_plain(initial) or not _is_plain(longest):
        return True  # another rule says so
    return duration_ms(initial) <= duration_ms(longest)


def _for_queue(field: str) -> Any:
    return lambda new, _: field not in new or new.get("mode") == "queue"


def _dead_topic(resource: dict[str, Any]) -> str:
    topic: str = (
        resource["spec"].get("deadLetter", {}).get("topicName") or f"{_name(resource)}{DEAD_LETTER_SUFFIX}"
    )
    return topic


def _is_topic_name(name: str) -> bool:
    return re.fullmatch(_TOPIC_NAME, name) is not None and name not in (".", "..")


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
        cel="self != 'broadcast'",
        message=unavailable("mode: broadcast", "write mode: stream, or mode: queue, or leave it out"),
        holds=lambda new, _: new != "broadcast",
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
        cel=f"!has(self.retry) || {_MODE_CEL.format('self')} == 'queue'",
        message="retry is for queue groups: leave it out, or write mode: queue",
        holds=_for_queue("retry"),
    ),
    Rule(
        name="group-dead-letter",
        path="spec",
        cel=f"!has(self.deadLetter) || {_MODE_CEL.format('self')} == 'queue'",
        message="deadLetter is for queue groups: leave it out, or write mode: queue",
        holds=_for_queue("deadLetter"),
    ),
    Rule(
        name="group-lease",
        path="spec",
        cel=f"!has(self.lease) || {_MODE_CEL.format('self')} == 'queue'",
        message="lease is for queue groups: leave it out, or write mode: queue",
        holds=_for_queue("lease"),
    ),
    Rule(
        name="group-dead-letter-loop",
        path="",
        cel=f"{_MODE_CEL.format('self.spec')} != 'queue' || !({_DEAD_TOPIC_CEL} in self.spec.topics)",
        message="the group's dead letters would come back to it: write a deadLetter.topicName that is not among its topics",
        holds=lambda new, _: (
            new["spec"].get("mode") != "queue" or _dead_topic(new) not in new["spec"]["topics"]
        ),
    ),
    Rule(
        name="group-dead-letter-name",
        path="",
        cel=f"{_MODE_CEL.format('self.spec')} != 'queue' || ({_DEAD_TOPIC_CEL}.matches('^{_TOPIC_NAME}$')"
        f" && !({_DEAD_TOPIC_CEL} in ['.', '..']))",
        message="the topic of the group's dead letters is not one that Kafka clients accept: write a deadLetter.topicName of at most"
        " 249 letters, digits, dots, underscores and dashes",
        holds=lambda new, _: new["spec"].get("mode") != "queue" or _is_topic_name(_dead_topic(new)),
    ),
    Rule(
        name="group-lease-duration",
        path="spec.lease",
        cel=f"!has(self.duration) || ({_within_cel('self.duration', LEASE_MS_MIN, LEASE_MS_MAX)})",
        message="lease.duration is too short, too long or in another unit: write 1ms to 12h, such as 30s or 5m",
        holds=lambda new, _: "duration" not in new or _is_within(new["duration"], LEASE_MS_MIN, LEASE_MS_MAX),
    ),
    Rule(
        name="group-backoff",
        path="spec.retry.backoff",
        cel=f"{_within_cel(_INITIAL_CEL, 0, DELAY_MS_MAX)} && {_within_cel(_MAX_CEL, 0, DELAY_MS_MAX)}",
        message="backoff.initial or backoff.max is too long or in another unit: write at most 24h, such as 500ms, 10s or 2h",
        holds=lambda new, _: all(
            _is_within(new.get(field, default), 0, DELAY_MS_MAX)
            for field, default in (("initial", RETRY_INITIAL_DEFAULT), ("max", RETRY_MAX_DEFAULT))
        ),
    ),
    Rule(
        name="group-backoff-rises",
        path="spec.retry.backoff",
        # Where one of them is refused, nothing can be compared with it.
        cel=f"!{_plain_duration_cel(_INITIAL_CEL)} || !{_plain_duration_cel(_MAX_CEL)}"
        f" || duration({_INITIAL_CEL}) <= duration({_MAX_CEL})",
        message="backoff.initial is longer than backoff.max: write a shorter initial or a longer max",
        holds=lambda new, _: _rises(new),
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
