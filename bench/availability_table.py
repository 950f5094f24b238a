"""Outcomes of the availability matrix in, Markdown out."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.testing.availability.gaps import Gap
    from penstock.testing.availability.matrix import Cell
    from penstock.testing.availability.trial import Effort, Outcome

HEAD = (
    "| mode | cause | brokers hit | runs | ms without an acknowledged write: p50 | highest"
    " | ms until a consumer saw new records: p50 | highest | lost | duplicated | out of order | what the shard said of it |"
)
RULE = "| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |"
NO_SERVICE = "none"


class Row(NamedTuple):
    """All runs of a cell; `failures` says of those that did not get to their end why."""

    mode: str
    cell: Cell
    outcomes: list[Outcome]
    failures: list[str]

    @property
    def wrong(self) -> list[str]:
        """A sentence for all that must not be."""
        found = [*self.failures, *(sentence for each in self.outcomes for sentence in each.account.wrong)]
        return [f"{self.mode}, {self.cell.cause.word} {self.cell.words}: {sentence}" for sentence in found]


def write_table(rows: Sequence[Row], machine: str, effort: Effort) -> str:
    """The report."""
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    acked = sum(outcome.account.verdict.acked for outcome in outcomes)
    usual = [outcome.acknowledged.usual * 1000 for outcome in outcomes if outcome.acknowledged]
    lines = [
        f"{machine}. {len(outcomes)} runs, {acked:,} messages acknowledged, {effort.per_second} a second."
        f" A paused broker hung for {effort.absence.paused_s:g} s, a deleted one was away for {effort.absence.gone_s:g} s."
    ]
    if usual:
        lines.append(
            f"The usual gap between two acknowledgements, which is taken off: {_middle(usual)} ms (p50 of the runs),"
            f" {max(usual):.0f} ms (highest)."
        )
    lines += ["", HEAD, RULE, *map(_line, rows)]
    wrong = [f"- {sentence.splitlines()[0]}" for row in rows for sentence in row.wrong]
    if wrong:
        lines += ["", "What must not be:", "", *wrong]
    return "\n".join(lines)


def _line(row: Row) -> str:
    verdicts = [outcome.account.verdict for outcome in row.outcomes]
    runs = len(row.outcomes) + len(row.failures)
    cells = [
        row.mode,
        row.cell.cause.word,
        row.cell.words,
        str(runs) if not row.failures else f"{runs}, {len(row.failures)} failed",
        *_times([outcome.acknowledged for outcome in row.outcomes]),
        *_times([outcome.read for outcome in row.outcomes]),
        _lost(row),
        f"{sum(verdict.duplicated for verdict in verdicts):,}",
        f"{sum(verdict.disordered + verdict.misplaced for verdict in verdicts):,}",
        _said(row),
    ]
    return f"| {' | '.join(cells)} |"


def _times(gaps: Sequence[Gap | None]) -> tuple[str, str]:
    """p50 and highest."""
    values = [gap.net_ms for gap in gaps if gap is not None]
    return (_middle(values), f"{max(values):,.0f}") if values else (NO_SERVICE, NO_SERVICE)


def _lost(row: Row) -> str:
    """How many, and whether the shard said so."""
    lost = sum(outcome.account.verdict.lost for outcome in row.outcomes)
    gone = sum(outcome.account.gone for outcome in row.outcomes)
    return f"{lost:,}" if not lost + gone else f"{lost:,} ({gone:,} said)"


def _said(row: Row) -> str:
    """Each sentence, with the number of runs where they differ."""
    found = Counter(outcome.said for outcome in row.outcomes)
    if len(found) <= 1:
        return "".join(found)
    return "; ".join(f"{sentence} ({count})" for sentence, count in found.most_common())


def _middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f}"
