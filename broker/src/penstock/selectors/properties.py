"""Which names an expression can use: the message's headers, and a few facts that the broker knows.

| name | what it is |
| --- | --- |
| any name that does not begin with `JMS` | the header of that name; of several, the last, as Kafka's clients do |
| `TAGS` | the header of that name: the message's tag, as RocketMQ's clients set it |
| `KEYS` | the header of that name (RocketMQ's clients set it); without one, the record's key |
| `JMSTimestamp` | the record's timestamp: an exact number, milliseconds since 1970 |
| `JMSCorrelationID`, `JMSType`, `JMSXGroupID` | the headers of these names |

Everything here stays as it is for the whole life of a message, so a selector answers the same at every delivery and
from every leader; a number of deliveries, a destination or an expiry is not offered for that reason. All other names
that begin with `JMS`, which the specification keeps for itself and for providers, are refused, so that they can get a
meaning later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from penstock.selectors.limits import PROPERTY_BYTES_MAX
from penstock.selectors.values import Value

TAGS = "TAGS"
KEYS = "KEYS"
TIMESTAMP = "JMSTimestamp"

_RESERVED = "JMS"
_OFFERED = frozenset((TIMESTAMP, "JMSCorrelationID", "JMSType", "JMSXGroupID"))


def check_name(name: str) -> str | None:
    """Why an expression cannot use the name, or None."""
    if name.startswith(_RESERVED) and name not in _OFFERED:
        return f"{name} is reserved and not offered: of the names that begin with JMS, use {', '.join(sorted(_OFFERED))}"
    return None


def properties_of(
    names: Collection[str],
    key: bytes | None,
    timestamp_ms: int,
    headers: Iterable[tuple[str, bytes | None]],
) -> dict[str, Value]:
    """Those of the wanted names that a record has. A header without value is NULL."""
    found = {name: value for name, value in headers if name in names}
    properties: dict[str, Value] = {name: _text(value) for name, value in found.items()}
    if KEYS in names and KEYS not in found:
        properties[KEYS] = _text(key)
    if TIMESTAMP in names:
        properties[TIMESTAMP] = timestamp_ms
    return properties


def _text(value: bytes | None) -> Value:
    """A header's text. One that is too long, or no UTF-8, stays bytes; a few stand for all, for nobody looks at them."""
    if value is None:
        return None
    if len(value) > PROPERTY_BYTES_MAX:
        return b""
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return b""
