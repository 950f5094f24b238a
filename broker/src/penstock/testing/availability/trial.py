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
from penstock.testing.availability.matrix import Ending
from penstock.testing.managed_process import ServerError
from penstock.testing.replicas import DisagreementError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from penstock.testing.availability.books import Place
    from penstock.testing.availability.matrix import Cell
    from penstock.testing.shard_processes import ShardProcesses

FLOW_MESSAGES = 500
"""How many acknowledgements show that messages flow: far more than were on their way when something broke."""
ORDINARY_MESSAGES = 2_000
"""How many pass before the damage: four seconds in which the usual gap is looked for."""
IN_SYNC_INTERVAL_S = 0.1
IN_SYNC_TIMEOUT_S = 60.0
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
    shard: ShardProcesses, enough: int, cell: Cell, topic: str, random: Random, effort: Effort | None = None
) -> Outcome:
    """`shard` is whole, and is whole again afterwards, but where it refuses to serve; `enough` of its brokers have to be
    there, `topic` is made. Raises ServerError, LoadError when it or the clients do not get there."""
    shard.note_formed()
    create_topic(shard.kafka, topic)
    effort = effort or Effort()
    with closing(Load(shard.kafka, topic, effort.per_second)) as load:
        trial = _Trial(shard, cell, load, enough, effort)
        victims = cell.victims(shard.leader(), random)
        load.wait_flow(effort.flow)
        if trial.ending is Ending.SERVES:
            return trial.served(victims)
        if trial.ending is Ending.TRUSTED:
            return trial.trusted(victims)
        return trial.refused(victims)


class _Trial:
    """What the three courses of a run share."""

    def __init__(self, shard: ShardProcesses, cell: Cell, load: Load, enough: int, effort: Effort) -> None:
        self.shard = shard
        self.cell = cell
        self.load = load
        self.enough = enough
        self.effort = effort
        self.ending = cell.ending(enough)
        self._logs = [broker.log.stat().st_size for broker in shard.brokers]

    # --- courses ---------------------------------------------------------------------------------

    def served(self, victims: Sequence[int]) -> Outcome:
        """The shard goes on by itself."""
        leader, cause = self.shard.leader(), self.cell.cause
        away_s = self.effort.absence.of(cause)
        said = ""
        ordinary, began = self._ordinary()
        strike(self.shard, cause, victims)
        if away_s:
            time.sleep(away_s)
            said = self._said([other for other in self.shard.running if other not in victims], leader)
        counted = restore(self.shard, cause, victims, self.enough)
        self.load.wait_flow(self.effort.flow)
        said = said or self._said(range(self.shard.replicas), leader)
        window = Window(ordinary, began, self._whole_again(), counted)
        return self._outcome(said, window)

    def trusted(self, victims: Sequence[int]) -> Outcome:
        """Too few are left for good, until one of them is trusted."""
        left = [ordinal for ordinal in range(self.shard.replicas) if ordinal not in victims]
        ordinary, began = self._ordinary()
        if self.cell.behind:
            for ordinal in left:
                self.shard.pause(ordinal)
            self.load.wait_flow(self.effort.flow)
        strike(self.shard, self.cell.cause, victims)
        if self.cell.behind:
            for ordinal in left:
                self.shard.resume(ordinal)
        restore(self.shard, self.cell.cause, victims, self.enough)
        said = self._wait_refusals()
        acked = len(self.load.acked)
        ends = {ordinal: self.shard.ask(ordinal, "/v1/broker")["log"]["lastIndex"] for ordinal in left}
        chosen = max(left, key=lambda ordinal: ends[ordinal])
        wrong = self._served_meanwhile(acked)
        asked = time.monotonic()
        recovery = self.shard.trust(chosen)
        if recovery["lastIndex"] != ends[chosen]:
            wrong.append(f"entry {recovery['lastIndex']} was said to be the last, it is {ends[chosen]}")
        self.load.wait_flow(self.effort.flow)
        window = Window(ordinary, began, self._whole_again(), asked)
        return self._outcome(
            f"{said}; once trusted: what was acknowledged behind entry N may be gone",
            window,
            Told(recovery["epoch"], acked),
            wrong,
        )

    def refused(self, victims: Sequence[int]) -> Outcome:
        """Nothing is left."""
        self.load.stop_reading()
        strike(self.shard, self.cell.cause, victims)
        restore(self.shard, self.cell.cause, victims, self.enough)
        self.shard.wait_until(self._all_met, "meeting of all brokers")
        said = self._wait_refusals()
        acked = len(self.load.acked)
        wrong = [] if NOT_FOUNDED in said else [f"not that it existed before, but: {said}"]
        self.load.close()
        wrong += [*self._served_meanwhile(acked), *self._tracebacks()]
        account = settle(self._records([]), self.ending)
        return Outcome(self.cell, account._replace(wrong=(*account.wrong, *wrong)), said, None, None)

    # --- steps -----------------------------------------------------------------------------------

    def _ordinary(self) -> tuple[float, float]:
        """Messages flow as ever; from when until when."""
        began = time.monotonic()
        self.load.wait_flow(self.effort.ordinary)
        return began, time.monotonic()

    def _whole_again(self) -> float:
        """Waits for it, and until messages flow then; the moment of that. Asks seldom, because asking costs the brokers."""
        everybody = frozenset(range(self.shard.replicas))
        deadline = time.monotonic() + IN_SYNC_TIMEOUT_S
        while self.shard.view(self.shard.leader()).in_sync != everybody:
            if time.monotonic() > deadline:
                raise ServerError(f"not whole within {IN_SYNC_TIMEOUT_S:.0f} s:\n{self.shard.tails()}")
            time.sleep(IN_SYNC_INTERVAL_S)
        self.load.wait_flow(self.effort.flow)
        return time.monotonic()

    def _outcome(
        self, said: str, window: Window, told: Told | None = None, wrong: Sequence[str] = ()
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

    def _said(self, ordinals: Sequence[int], before: int) -> str:
        """What those brokers say of the shard, without names and numbers that differ from run to run."""
        if not ordinals:
            return "nobody is there to ask"
        for ordinal in ordinals:
            reasons = _reasons(self.shard, ordinal)
            if reasons == []:
                view = self.shard.view(ordinal)
                leads = "the same broker leads" if view.leader == before else "another broker leads"
                leader = self.shard.view(view.leader) if view.leader in ordinals else view
                missing = self.shard.replicas - len(leader.in_sync)
                return f"{leads}, {missing} not in sync" if missing else f"{leads}, all in sync"
        found = sorted({reason for ordinal in ordinals for reason in _reasons(self.shard, ordinal) or ()})
        return "; ".join(found) or "nobody answers"

    def _wait_refusals(self) -> str:
        """Waits until every broker says why it does not serve, and that nobody leads."""
        found: dict[int, list[str]] = {}

        def all_refuse() -> bool:
            for ordinal in range(self.shard.replicas):
                reasons = _reasons(self.shard, ordinal)
                if (
                    not reasons
                    or not self.shard.brokers[ordinal].note_ready()
                    or self.shard.view(ordinal).leader >= 0
                ):
                    return False
                found[ordinal] = reasons
            return True

        self.shard.wait_until(all_refuse, "sentence of every broker that it does not serve")
        return "; ".join(sorted({reason for reasons in found.values() for reason in reasons}))

    def _all_met(self) -> bool:
        """Whether every broker that was started since has met every other one."""
        others = self.shard.replicas - 1
        return all(log.count(MET) >= others for log in self._new_logs())

    def _served_meanwhile(self, acked: int) -> list[str]:
        more = len(self.load.acked) - acked
        return [f"{more} messages were acknowledged while nobody was to serve"] if more else []

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
