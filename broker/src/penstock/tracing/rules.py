"""Rules that name messages which are always followed, for a limited time: by message id, or by a pattern of keys.

They are kept as one setting of the cluster (`tracing.rules`), so that every leader to come knows them; its text is the
JSON that this module writes and reads. How many there are, how long each is and how long it lives is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

RULES_MAX = 20
RULE_TEXT_MAX = 249
"""Characters of a topic's name, a message id or a pattern."""

RULE_ID_MAX = 64
RULE_MS_MAX = 24 * 3600 * 1000
"""A rule lives for a day at most: what should be followed for good is a topic's ratio."""

WILDCARD = "*"


class RuleError(ValueError):
    """A rule, or the setting's text, cannot be used; the text is a sentence."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Follow every message of `topic` (empty: of any topic) whose id is `message_id`, or whose key fits `key`, until
    `expires_at_ms` (since 1970). In `key`, `*` stands for any bytes. One of the two is given."""

    id: str
    expires_at_ms: int
    topic: str = ""
    message_id: str = ""
    key: str = ""

    def fits(self, topic: str, message_id: str | None, key: bytes | None) -> bool:
        """Whether a message is named by this rule. Time is not looked at."""
        if self.topic and self.topic != topic:
            return False
        if self.message_id:
            return self.message_id == message_id
        return key is not None and fits_pattern(self.key.encode(), key)


def check_rule(rule: Rule) -> Rule:
    """The rule itself. Raises RuleError."""
    if not rule.id or len(rule.id) > RULE_ID_MAX:
        raise RuleError(f"a rule needs an id of at most {RULE_ID_MAX} characters")
    if bool(rule.message_id) == bool(rule.key):
        raise RuleError("a rule names either a message id or a pattern of keys")
    if any(len(text) > RULE_TEXT_MAX for text in (rule.topic, rule.message_id, rule.key)):
        raise RuleError(f"topic, message id and pattern have at most {RULE_TEXT_MAX} characters each")
    return rule


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules of the setting. Raises RuleError for anything that this module would not have written."""
    if not text.strip():
        return ()
    try:
        rules = msgspec.json.decode(text, type=tuple[Rule, ...])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise RuleError(f"it is not a list of rules: {error}") from error
    if len(rules) > RULES_MAX:
        raise RuleError(f"there are {len(rules)} rules, at most {RULES_MAX} are kept")
    if len({rule.id for rule in rules}) != len(rules):
        raise RuleError("two rules have the same id")
    return tuple(map(check_rule, rules))


def write_rules(rules: Sequence[Rule]) -> str:
    """The setting's text; empty for none."""
    return msgspec.json.encode(rules).decode() if rules else ""


def living(rules: Iterable[Rule], now_ms: int) -> tuple[Rule, ...]:
    """Those whose time is not over."""
    return tuple(rule for rule in rules if rule.expires_at_ms > now_ms)


def with_rule(rules: Sequence[Rule], rule: Rule, now_ms: int) -> tuple[Rule, ...]:
    """The living ones with one more, or with another in the place of the one of its id. Raises RuleError."""
    left_ms = check_rule(rule).expires_at_ms - now_ms
    if not 0 < left_ms <= RULE_MS_MAX:
        raise RuleError(f"a rule lives for at most {RULE_MS_MAX // 3_600_000} hours")
    kept = tuple(item for item in living(rules, now_ms) if item.id != rule.id)
    if len(kept) >= RULES_MAX:
        raise RuleError(f"there are {RULES_MAX} rules already: delete one, or wait until one's time is over")
    return (*kept, rule)


def fits_pattern(pattern: bytes, key: bytes) -> bool:
    """Whether `key` is `pattern`, where `*` stands for any bytes. Takes one pass over the key."""
    first, *parts = pattern.split(WILDCARD.encode())
    if not parts:
        return key == first
    last = parts.pop()
    if not key.startswith(first) or not key.endswith(last) or len(key) < len(first) + len(last):
        return False
    position, limit = len(first), len(key) - len(last)
    for part in parts:
        found = key.find(part, position, limit)
        if found < 0:
            return False
        position = found + len(part)
    return True
