"""How large an expression may be, and how much of a message is looked at, so that no filter can hold up the broker.

The worst that these allow together is a selector of `LIKES_MAX` patterns with `_` over properties of full length,
which is some ten milliseconds a message; an ordinary one takes a few microseconds.
"""

from __future__ import annotations

EXPRESSION_CHARACTERS_MAX = 4_096
"""Characters of a selector or a tag expression."""

NODES_MAX = 500
"""Literals, identifiers and operators of a selector together."""

DEPTH_MAX = 32
"""Parentheses, NOTs and signs within each other. Chains of AND, OR, + and * have no depth."""

IN_LIST_MAX = 256
"""Strings after IN."""

LIKES_MAX = 16
"""LIKEs of a selector."""

PATTERN_CHARACTERS_MAX = 256
"""Characters of a LIKE's pattern."""

NAME_CHARACTERS_MAX = 256
"""Characters of an identifier."""

NUMBER_CHARACTERS_MAX = 64
"""Characters of a header that is read as a number; a longer text is no number."""

PROPERTY_BYTES_MAX = 4_096
"""Bytes of a header, or of a key, that filters read as text; a longer one is there, and is like nothing."""

TAGS_MAX = 100
"""Tags of a tag expression."""

TAG_CHARACTERS_MAX = 128
"""Characters of a tag in an expression."""
