"""Who stands for election when the leader's process has ended, and when.

The end of the leader's connections tells its followers within a moment what silence tells after an election timeout. They
then stand one after the other, who has been there longest first (`seniority`), so that two seldom ask at once. Four rules keep that short
where the first try does not succeed:

* What came from a candidate while the leader still seemed well was left without an answer. It is looked at again when the
  leader is known to be gone, as if it came only now.
* Who refuses a candidate because it holds more than it stands at once: the other one cannot win.
* Who gave a vote, or asks for votes for real, leaves that election the time that the disks need, and does not start
  another one meanwhile.
* When too many refused for a majority to be left, as when votes are split, the order begins anew.

Whether an election may be won is the consensus's business alone: nothing here can do more than ask too often.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.raft.messages import VoteRequest, VoteResponse

# Seconds between two voters' turns, and between two tries of one of them; a try differs by up to the jitter.
TURN_SECONDS = 0.1
JITTER_SECONDS = 0.02
# What an election may take once votes are given: they are written to two disks, one after the other.
CANDIDACY_SECONDS = 0.3
# Between two tries at least, however much speaks for another one.
PAUSE_SECONDS = 0.01
# What a candidate asked longer ago is not looked at again: it asks anew.
HELD_SECONDS_MAX = 0.5


class Succession:
    """One voter's part. `now` is in seconds of any clock that never goes back, `chance` a random number from 0 to 1."""

    def __init__(self, own: int) -> None:
        self._own = own
        self._voters = 0
        self._rank = 0
        self._due: float | None = None
        self._ends = 0.0
        # Not before this, whatever speaks for another try: one has just been made, or an election is under way.
        self._not_before = 0.0
        self._refused_by: set[int] = set()
        # By candidate: when it asked, and what.
        self._held: dict[int, tuple[float, VoteRequest]] = {}

    @property
    def due(self) -> float | None:
        """When to stand next; None while the leader is not known to be gone."""
        return self._due

    def begin(
        self, now: float, voters: Sequence[int], rank: int, *, lasting: float, chance: float
    ) -> list[VoteRequest]:
        """The leader's connection ended, and `rank` of the others stand before this voter. For `lasting` seconds it stands
        whenever it is due, then silence rules again. Gives what is to be looked at once more, first of all."""
        held = [request for asked, request in self._held.values() if now - asked <= HELD_SECONDS_MAX]
        self._held.clear()
        self._due = None
        if self._own in voters:
            self._voters = len(voters)
            self._rank = rank
            self._ends = now + lasting
            self._not_before = now
            self._due = now + self._turn(chance)
        return held

    def end(self) -> None:
        """Somebody leads."""
        self._due = None

    def stands(self, now: float, chance: float) -> bool:
        """Whether to stand now."""
        if self._due is None or now < self._due:
            return False
        if now >= self._ends:
            self._due = None
            return False
        self._not_before = now + PAUSE_SECONDS
        self._due = now + TURN_SECONDS + chance * JITTER_SECONDS
        return True

    def heard(self, request: VoteRequest, now: float) -> None:
        """A candidate asks while a leader is known, who may be gone."""
        self._held[request.sender] = (now, request)

    def noted(self, message: VoteRequest | VoteResponse, now: float, chance: float) -> None:
        """This voter asks for a vote, gives or refuses one, or gets an answer, while nobody leads."""
        if self._due is None:
            return
        own = message.sender == self._own
        if isinstance(message, VoteRequest):
            if own and not message.pre:
                self._refused_by.clear()
                self._wait_until(now + CANDIDACY_SECONDS)
        elif own and not message.rejected:
            self._wait_until(now + CANDIDACY_SECONDS)
        elif own and message.pre:
            self._stand_at(now)
        elif message.rejected and not message.pre and not own:
            self._refused_by.add(message.sender)
            # The one that is gone answers nothing.
            if self._voters - 1 - len(self._refused_by) <= self._voters // 2:
                self._not_before = now
                self._stand_at(now + self._turn(chance))

    def _turn(self, chance: float) -> float:
        """The first in order has nobody to wait for."""
        return self._rank * TURN_SECONDS + (chance * JITTER_SECONDS if self._rank else 0.0)

    def _wait_until(self, when: float) -> None:
        assert self._due is not None
        self._not_before = when
        self._due = max(self._due, when)

    def _stand_at(self, when: float) -> None:
        assert self._due is not None
        self._due = min(self._due, max(when, self._not_before))
