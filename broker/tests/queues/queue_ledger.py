"""What every member of a queue group was given and told, and whether that is as it must be.

Times are one clock's, in seconds. A holder is sure of a message from when it was told of it until its lease ran out at the
earliest (counted from when it asked), or until it began to settle it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Deed = Literal["none", "acknowledge", "reject"]


@dataclass
class Delivery:
    """One message given to one member. `deed` is what the member asked for, and `code` what it was told ("" for done, None for
    no answer)."""

    message: str
    member: int
    asked_s: float
    told_s: float
    lease_s: float
    deed: Deed = "none"
    deed_s: float = 0.0
    answered_s: float = 0.0
    code: str | None = None

    @property
    def sure_until_s(self) -> float:
        """Nobody else may hold it before."""
        ends = self.asked_s + self.lease_s
        return min(ends, self.deed_s) if self.deed != "none" else ends

    @property
    def done(self) -> bool:
        """Whether the member was told that it is acknowledged."""
        return self.deed == "acknowledge" and self.code == ""


@dataclass
class Verdict:
    """Messages by what is wrong with them; all empty is as it must be."""

    lost: list[str] = field(default_factory=list)
    both: list[str] = field(default_factory=list)
    buried_twice: list[str] = field(default_factory=list)
    again_after_done: list[str] = field(default_factory=list)
    done_twice: list[str] = field(default_factory=list)
    held_by_two: list[str] = field(default_factory=list)
    redelivered: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (
            self.lost
            or self.both
            or self.buried_twice
            or self.again_after_done
            or self.done_twice
            or self.held_by_two
        )


def judge(messages: Iterable[str], deliveries: Iterable[Delivery], buried: Iterable[str]) -> Verdict:
    """The whole story, once the group says that nothing is left. `buried` are the dead letters."""
    verdict = Verdict()
    dead: dict[str, int] = defaultdict(int)
    for message in buried:
        dead[message] += 1
    by_message: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        by_message[delivery.message].append(delivery)
    for message in messages:
        story = sorted(by_message[message], key=lambda each: each.told_s)
        done = [each for each in story if each.done]
        # An acknowledgement without an answer may have counted.
        maybe = [each for each in story if each.deed == "acknowledge" and each.code is None]
        if not done and not maybe and not dead[message]:
            verdict.lost.append(message)
        if done and dead[message]:
            verdict.both.append(message)
        if dead[message] > 1:
            verdict.buried_twice.append(message)
        if len(done) > 1:
            verdict.done_twice.append(message)
        if done and any(each.asked_s > done[0].answered_s for each in story):
            verdict.again_after_done.append(message)
        if any(later.told_s < earlier.sure_until_s for earlier, later in pairwise(story)):
            verdict.held_by_two.append(message)
        verdict.redelivered += max(len(story) - 1, 0)
    return verdict
