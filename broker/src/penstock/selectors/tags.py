"""RocketMQ's tag expressions: `*` for every message, or tags with `||` between them.

As in RocketMQ a message has one tag, tags are compared as they are written, spaces around them do not count, and an
empty expression is `*`. Unlike RocketMQ, which skips what it cannot use, anything else is refused: a forgotten tag, a
single `|`, words without `||` between them, `*` beside tags.
"""

from __future__ import annotations

from penstock.selectors.errors import SelectorError
from penstock.selectors.limits import EXPRESSION_CHARACTERS_MAX, TAG_CHARACTERS_MAX, TAGS_MAX

ALL = "*"
_BETWEEN = "||"


def parse_tags(text: str) -> frozenset[str] | None:
    """The tags of the messages that are wanted; None for every message. Raises SelectorError."""
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise SelectorError(
            EXPRESSION_CHARACTERS_MAX + 1,
            f"the expression has {len(text)} characters: at most {EXPRESSION_CHARACTERS_MAX} are read",
        )
    if text.strip() in ("", ALL):
        return None
    tags: set[str] = set()
    start = 0
    for part in text.split(_BETWEEN):
        tag = part.strip()
        begin = start + part.find(tag) if tag else start
        wrong = _what_is_wrong(tag)
        if wrong is not None:
            raise SelectorError(begin + 1, wrong)
        tags.add(tag)
        if len(tags) > TAGS_MAX:
            raise SelectorError(begin + 1, f"the expression names more than {TAGS_MAX} tags")
        start += len(part) + len(_BETWEEN)
    return frozenset(tags)


def _what_is_wrong(tag: str) -> str | None:
    if not tag:
        return "a tag is missing: write paid || refunded"
    if tag == ALL:
        return "* stands for every message: write it alone, or leave it out"
    if "|" in tag:
        return "a single | means nothing: write || between two tags"
    if len(tag.split()) > 1:
        return "a tag has no spaces: write || between two tags, or select by sql: TAGS = 'a b'"
    if len(tag) > TAG_CHARACTERS_MAX:
        return f"the tag has {len(tag)} characters: at most {TAG_CHARACTERS_MAX} are read"
    return None
