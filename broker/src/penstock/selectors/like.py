"""LIKE's patterns, matched in time that grows with the text alone: no regular expression, no going back.

A pattern is cut at every `%` into segments of fixed length, in which `_` is any character. The first and the last
segment stand at the ends of the text; those between are looked for one after the other, each as far left as possible,
which is always right because a segment matches a fixed number of characters. Without `_` that is the string's own
search; with it, one bit per character of the segment tells which beginnings still fit (Shift-And, Baeza-Yates and
Gonnet 1992), so one step per character of the text suffices whatever the pattern.
"""

from __future__ import annotations

from collections.abc import Callable

_ANY = None
"""Stands for `_` in a segment."""


def check_pattern(pattern: str, escape: str | None) -> str | None:
    """Why the pattern cannot be used, or None."""
    if escape is None:
        return None
    index = 0
    while (index := pattern.find(escape, index)) >= 0:
        following = pattern[index + 1 : index + 2]
        if following not in ("%", "_", escape):
            return (
                f"{escape} escapes %, _ and itself: it stands before {following or 'the end'} in the pattern"
            )
        index += 2
    return None


def compile_pattern(pattern: str, escape: str | None) -> Callable[[str], bool]:
    """Whether a whole text fits the pattern. The pattern is one that `check_pattern` has nothing against."""
    segments = [_Segment(characters) for characters in _split(pattern, escape)]
    first, last = segments[0], segments[-1]
    middle = [segment for segment in segments[1:-1] if segment.length]
    if len(segments) == 1:
        return lambda text: len(text) == first.length and first.stands_at(text, 0)
    shortest = sum(segment.length for segment in segments)

    def fits(text: str) -> bool:
        end = len(text) - last.length
        if len(text) < shortest or not first.stands_at(text, 0) or not last.stands_at(text, end):
            return False
        start = first.length
        for segment in middle:
            found = segment.find(text, start, end)
            if found < 0:
                return False
            start = found + segment.length
        return True

    return fits


def _split(pattern: str, escape: str | None) -> list[list[str | None]]:
    """The segments between the `%`, character by character."""
    segments: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            segments[-1].append(next(characters))
        elif character == "%":
            segments.append([])
        else:
            segments[-1].append(_ANY if character == "_" else character)
    return segments


class _Segment:
    """Some characters in a row; `literal` is their text if none of them is `_`."""

    def __init__(self, characters: list[str | None]) -> None:
        self.length = len(characters)
        self._fixed = [
            (index, character) for index, character in enumerate(characters) if character is not None
        ]
        self._literal = "".join(character for _, character in self._fixed)
        # Bit i of a character's mask: the segment may have it at i.
        any_mask = sum(1 << index for index, character in enumerate(characters) if character is _ANY)
        self._any_mask = any_mask
        self._masks: dict[str, int] = {}
        for index, character in self._fixed:
            self._masks[character] = self._masks.get(character, any_mask) | 1 << index

    def stands_at(self, text: str, start: int) -> bool:
        """Whether it does; the text is long enough."""
        if not self._any_mask:
            return text.startswith(self._literal, start)
        return all(text[start + index] == character for index, character in self._fixed)

    def find(self, text: str, start: int, end: int) -> int:
        """The first place at or after `start` where it stands and ends by `end`, or -1."""
        if not self._any_mask:
            return text.find(self._literal, start, end)
        whole = 1 << (self.length - 1)
        masks, any_mask = self._masks, self._any_mask
        state = 0
        for index in range(start, end):
            state = (state << 1 | 1) & masks.get(text[index], any_mask)
            if state & whole:
                return index - self.length + 1
        return -1
