"""What may happen to how many brokers of a shard, as data: the cells of the matrix and which brokers a run hits."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random


class Cause(Enum):
    """What happens to a broker. Each value says it for the documents."""

    CRASH = "SIGKILL, and started again at once"
    STOP = "SIGTERM, waited for, and started again at once"
    PAUSE = "SIGSTOP, and SIGCONT after a while"
    DELETE = "SIGTERM, all that is not its volume removed, and started anew after a while"
    WIPE = "SIGKILL, its volume emptied, and started again at once"

    @property
    def word(self) -> str:
        """Its name on the command line and in tables."""
        return self.name.lower()


class Target(Enum):
    """Who is hit: the leader is always among those hit, but where one follower is hit alone."""

    LEADER = "leader"
    FOLLOWER = "follower"


class Ending(Enum):
    """What the shard owes afterwards."""

    SERVES = "serves again by itself, nothing lost"
    LOSES = "serves again by itself; what was acknowledged and is lost was said by who took over"
    TRUSTED = "serves once a member is trusted; what that member did not hold is lost, and said"
    REFUSES = "says that its data is gone, and founds nothing anew"


class Cell(NamedTuple):
    """`hit` of `brokers` brokers meet `cause`. `behind`: the others are down before, and miss what is acknowledged."""

    cause: Cause
    hit: int
    brokers: int
    target: Target = Target.LEADER
    behind: bool = False

    @property
    def words(self) -> str:
        """How many, and who."""
        which = " (a follower)" if self.target is Target.FOLLOWER else ""
        others = ", the rest behind" if self.behind else ""
        return f"{self.hit} of {self.brokers}{which}{others}"

    def victims(self, leader: int, random: Random) -> list[int]:
        """Ordinals of those hit; the leader first, the others by chance."""
        followers = [ordinal for ordinal in range(self.brokers) if ordinal != leader]
        random.shuffle(followers)
        others = followers if self.target is Target.FOLLOWER else [leader, *followers]
        return others[: self.hit]

    def takes_service(self, enough: int) -> bool:
        """Whether fewer than `enough` brokers are left."""
        return self.brokers - self.hit < enough

    def ending(self, keepers: int, *, loses: bool = False) -> Ending:
        """What the shard owes, where it goes on by itself as long as `keepers` brokers have not lost their volumes. `loses`: who
        takes over may lack what a leader acknowledged that did not hand over."""
        if self.cause is Cause.WIPE and self.brokers - self.hit < keepers:
            return Ending.REFUSES if self.hit == self.brokers else Ending.TRUSTED
        return Ending.LOSES if loses and self.target is Target.LEADER else Ending.SERVES


def cells(brokers: int, keepers: int, causes: Sequence[Cause] = tuple(Cause)) -> Iterator[Cell]:
    """The matrix: every cause, one follower alone, then the leader with nobody, with some, with all others. Where a member
    has to be trusted, also with one that is behind."""
    for cause in causes:
        if brokers > 1:
            yield Cell(cause, 1, brokers, Target.FOLLOWER)
        for hit in range(1, brokers + 1):
            cell = Cell(cause, hit, brokers)
            yield cell
            if cell.ending(keepers) is Ending.TRUSTED:
                yield cell._replace(behind=True)
