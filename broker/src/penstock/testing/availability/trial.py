"""One run of one cell: messages flow, brokers are hit, messages flow again, and the books are closed.

The times are taken by the clients alone. The shard is asked who leads before the damage, and what it says of it when the
clients go on, or where they cannot, while they wait.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.availability.books import Account, Records, Told, settle
from penstock.testing.availability.faults import Absence, restore, strike
from penstock.testing.availability.gaps import Gap, Window, measure
from penstock.testing.availability.load import PER_SECOND, Load, create_topic, read_back
from penstock.testing.availability.losses import find_losses
from penstock.testing.availability.matrix import Cause, Ending
from penstock.testing.managed_process import ServerError
from penstock.testing.replicas import DisagreementError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from penstock.testing.availability.books import Losses, Place
    from penstock.testing.availability.matrix import Cell
    from penstock.testing.availability.modes import Mode
    from penstock.testing.shard_processes import ShardProcesses

FLOW_MESSAGES = 500
"""How many acknowledgements show that messages flow: far more than were on their way when something broke."""
ORDINARY_MESSAGES = 1_000
"""How many pass before the damage: two seconds in which the usual gap is looked for."""
IN_SYNC_INTERVAL_S = 0.1
IN_SYNC_TIMEOUT_S = 60.0
LOSS_SAID = "who took over said what it lacks"
NOT_FOUNDED = "the shard existed before"
MET = b"connected to broker"


class Effort(NamedTuple):
    """How much load there is around the damage, and how long brokers are away."""

    ordinary: int = ORDINARY_MESSAGES
    flow: int = FLOW_MESSAGES
    per_second: int = PER_SECOND
    absence: Absence = Absence()


class Outcome(NamedTuple):
    """`acknowledged` and `read` are the gaps at the producer and at the consumer, None where nobody serves afterwards; `said`
    is what the shard said of it."""

    cell: Cell
    account: Account
    said: str
    acknowledged: Gap | None
    read: Gap | None

    def line(self) -> str:
        """One line for people."""
        verdict = self.account.verdict
        gaps = ""
        if self.acknowledged is not None and self.read is not None:
            gaps = (
                f" without_ack_ms={self.acknowledged.net_ms:.0f} usual_ms={self.acknowledged.usual * 1000:.0f}"
                f" until_read_ms={self.read.net_ms:.0f}"
            )
        return (
            f"{self.cell.cause.word} {self.cell.words}:{gaps} acked={verdict.acked} lost={verdict.lost}"
            f" duplicated={verdict.duplicated} disordered={verdict.disordered}; {self.said}"
        )


def run_trial(
    shard: ShardProcesses, mode: Mode, cell: Cell, topic: str, random: Random, effort: Effort | None = None
) -> Outcome:
    """`shard` is one of that mode, is whole, and is whole again afterwards, but where it refuses to serve; `topic` is made.
    Raises ServerError, LoadError when it or the clients do not get there."""
    shard.note_formed()
    create_topic(shard.kafka, topic)
    effort = effort or Effort(absence=mode.absence)
    with closing(Load(shard.kafka, topic, effort.per_second)) as load:
        load.wait_flow(effort.flow)
        trial = _Trial(shard, mode, cell, load, effort)
        trial.begin(random)
        if trial.ending in (Ending.SERVES, Ending.LOSES):
            return trial.served()
        if trial.ending is Ending.TRUSTED:
            return trial.trusted()
        return trial.refused()


class _Trial:
    """What the three courses of a run share."""

    def __init__(self, shard: ShardProcesses, mode: Mode, cell: Cell, load: Load, effort: Effort) -> None:
        self.shard = shard
        self.cell = cell
        self.load = load
        self.enough = mode.enough(cell.brokers)
        self.effort = effort
        self.ending = mode.ending(cell)
        self.leader = -1
        self._epoch = 0
        self.victims: Sequence[int] = ()
        self.left: Sequence[int] = ()
        self._ordinary = self._began = 0.0
        self._logs = [broker.log.stat().st_size for broker in shard.brokers]

    def begin(self, random: Random) -> None:
        """Messages flow as ever for a while; then it is settled who is hit."""
        self._ordinary = time.monotonic()
        self.load.wait_flow(self.effort.ordinary)
        self.leader = self.shard.leader()
        self._epoch = self.shard.view(self.leader).epoch
        self.victims = self.cell.victims(self.leader, random)
        self.left = [ordinal for ordinal in range(self.shard.replicas) if ordinal not in self.victims]
        self._began = time.monotonic()

    # --- courses ---------------------------------------------------------------------------------

    def served(self) -> Outcome:
        """The shard goes on by itself."""
        away_s = self.effort.absence.of(self.cell.cause)
        said = ""
        strike(self.shard, self.cell.cause, self.victims)
        if away_s:
            time.sleep(away_s)
            said = self._said(self.left)
        counted = restore(self.shard, self.cell.cause, self.victims, self.enough)
        self.load.wait_flow(self.effort.flow)
        said = said or self._said(range(self.shard.replicas))
        if self.ending is Ending.SERVES:
            return self._outcome(said, self._whole_again(counted))
        acked = len(self.load.acked)
        window = self._whole_again(counted)
        lost = find_losses(self.shard, self.load.topic, self._epoch, self._new_logs())
        if self.cell.cause is Cause.WIPE:
            lost = lost._replace(aside=None)  # It was emptied, too.
        words = f"{said}; {LOSS_SAID}" if lost.epochs else said
        return self._outcome(words, window, lost._replace(acked=acked), lost.wrong)

    def trusted(self) -> Outcome:
        """Too few are left for good, until one of them is trusted."""
        if self.cell.behind:
            for ordinal in self.left:
                # Not paused: it would still read what its socket has.
                self.shard.kill(ordinal)
            self.load.wait_flow(self.effort.flow)
        strike(self.shard, self.cell.cause, self.victims)
        if self.cell.behind:
            for ordinal in self.left:
                self.shard.brokers[ordinal].launch_only()
        restore(self.shard, self.cell.cause, self.victims, self.enough)
        said, wrong = self._wait_refusals()
        acked = len(self.load.acked)
        ends = {ordinal: self.shard.ask(ordinal, "/v1/broker")["log"]["lastIndex"] for ordinal in self.left}
        chosen = max(self.left, key=lambda ordinal: ends[ordinal])
        asked = time.monotonic()
        recovery = self.shard.trust(chosen)
        if recovery["lastIndex"] != ends[chosen]:
            wrong.append(f"entry {recovery['lastIndex']} was said to be the last, it is {ends[chosen]}")
        self.load.wait_flow(self.effort.flow)
        said = f"{said}; once trusted: what was acknowledged behind entry N may be gone"
        return self._outcome(said, self._whole_again(asked), Told(recovery["epoch"], acked), wrong)

    def refused(self) -> Outcome:
        """Nothing is left."""
        self.load.stop_reading()
        strike(self.shard, self.cell.cause, self.victims)
        restore(self.shard, self.cell.cause, self.victims, self.enough)
        said, wrong = self._wait_refusals()
        if NOT_FOUNDED not in said:
            wrong.append(f"not that it existed before, but: {said}")
        self.load.close()
        wrong += self._tracebacks()
        account = settle(self._records([]), self.ending)
        return Outcome(self.cell, account._replace(wrong=(*account.wrong, *wrong)), said, None, None)

    # --- steps -----------------------------------------------------------------------------------

    def _whole_again(self, counted: float | None) -> Window:
        """Waits for it, and until messages flow then. Asks seldom, because asking costs the brokers."""
        deadline = time.monotonic() + IN_SYNC_TIMEOUT_S
        while not self._all_in_sync():
            if time.monotonic() > deadline:
                raise ServerError(f"not whole within {IN_SYNC_TIMEOUT_S:.0f} s:\n{self.shard.tails()}")
            time.sleep(IN_SYNC_INTERVAL_S)
        self.load.wait_flow(self.effort.flow)
        return Window(self._ordinary, self._began, time.monotonic(), counted)

    def _all_in_sync(self) -> bool:
        up = all(broker.note_ready() for broker in self.shard.brokers)
        try:
            return up and len(self.shard.view(self.shard.leader()).in_sync) == self.shard.replicas
        except ServerError:
            return False  # It has just ended.

    def _outcome(
        self, said: str, window: Window, told: Told | Losses | None = None, wrong: Sequence[str] = ()
    ) -> Outcome:
        self.load.finish(since=0 if told is None else told.acked)
        self.shard.wait_whole()
        account = settle(self._records(read_back(self.shard.kafka, self.load.topic)), self.ending, told)
        found = [*account.wrong, *wrong, *self._tracebacks(), *self._disagreement()]
        return Outcome(
            self.cell,
            account._replace(wrong=tuple(found)),
            said,
            measure(self.load.acked_at, window),
            measure(self.load.read_at, window),
        )

    def _records(self, back: Sequence[Place]) -> Records:
        return Records(self.load.sent, self.load.acked, self.load.read, back)

    # --- what the shard says -----------------------------------------------------------------------

    def _said(self, ordinals: Sequence[int]) -> str:
        """What those brokers say of the shard, without names and numbers that differ from run to run."""
        if not ordinals:
            return "nobody is there to ask"
        for ordinal in ordinals:
            reasons = _reasons(self.shard, ordinal)
            if reasons == []:
                view = self.shard.view(ordinal)
                leads = "the same broker leads" if view.leader == self.leader else "another broker leads"
                leader = self.shard.view(view.leader) if view.leader in ordinals else view
                missing = self.shard.replicas - len(leader.in_sync)
                return f"{leads}, {missing} not in sync" if missing else f"{leads}, all in sync"
        found = sorted({reason for ordinal in ordinals for reason in _reasons(self.shard, ordinal) or ()})
        return "; ".join(found) or "nobody answers"

    def _wait_refusals(self) -> tuple[str, list[str]]:
        """Waits until all brokers are up and have met, and every one says why it does not serve and that nobody leads. Their
        reasons, and what was wrong meanwhile."""
        self.shard.wait_until(self._all_met, "meeting of all brokers")
        acked = len(self.load.acked)
        found: list[list[str] | None] = []

        def all_refuse() -> bool:
            found[:] = [_reasons(self.shard, ordinal) for ordinal in range(self.shard.replicas)]
            return all(found) and all(
                self.shard.view(other).leader < 0 for other in range(self.shard.replicas)
            )

        self.shard.wait_until(all_refuse, "sentence of every broker that it does not serve")
        said = "; ".join(sorted({reason for reasons in found for reason in reasons or ()}))
        more = len(self.load.acked) - acked
        return said, [f"{more} messages were acknowledged while nobody was to serve"] if more else []

    def _all_met(self) -> bool:
        """Whether every broker that was hit has met every other one since."""
        logs = self._new_logs()
        return all(logs[ordinal].count(MET) >= self.shard.replicas - 1 for ordinal in self.victims)

    def _tracebacks(self) -> list[str]:
        return [
            f"broker {ordinal} wrote a traceback"
            for ordinal, log in enumerate(self._new_logs())
            if b"Traceback" in log
        ]

    def _new_logs(self) -> list[bytes]:
        return [
            broker.log.read_bytes()[size:]
            for broker, size in zip(self.shard.brokers, self._logs, strict=True)
        ]

    def _disagreement(self) -> list[str]:
        try:
            self.shard.agreed()
        except DisagreementError as error:
            return [str(error)]
        return []


def _reasons(shard: ShardProcesses, ordinal: int) -> list[str] | None:
    """Why a broker does not serve; None when it does not answer."""
    try:
        return shard.reasons(ordinal)
    except ServerError:
        return None
