"""Whether a broker with an empty folder founds its shard, joins it, or waits.

Only broker 0 may found, only while the configuration says that the shard has never existed, and only when every other
broker was asked and is as empty: so a volume that was replaced never becomes a second shard of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

FOUNDER_ORDINAL = 0


class FoundingStep(Enum):
    """What to do now."""

    FOUND = "found"
    JOIN = "join"
    WAIT = "wait"


class Founding(msgspec.Struct, frozen=True):
    """The step, and a sentence for people while it is WAIT."""

    step: FoundingStep
    sentence: str = ""


def decide_founding(
    *, ordinal: int, replicas: int, formed: bool, peers_founded: Mapping[int, bool]
) -> Founding:
    """For a broker that knows no configuration. `peers_founded` has the brokers that can be asked now, by ordinal, and
    whether each knows one."""
    if any(peers_founded.values()):
        return Founding(FoundingStep.JOIN)
    missing = [number for number in range(replicas) if number != ordinal and number not in peers_founded]
    if formed:
        return Founding(
            FoundingStep.WAIT,
            "the shard existed before and no broker that can be asked holds it: bring back a broker with its volume",
        )
    if ordinal != FOUNDER_ORDINAL:
        return Founding(FoundingStep.WAIT, f"broker {FOUNDER_ORDINAL} has to found the shard first")
    if missing:
        names = ", ".join(map(str, missing))
        return Founding(FoundingStep.WAIT, f"the shard is founded once broker {names} can be asked")
    return Founding(FoundingStep.FOUND)
