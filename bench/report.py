"""Rounds of figures in, a Markdown report out: both brokers side by side, with ratios and how far rounds differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.measures import middle, spread
from bench.plan import DURABILITIES, PEERS, cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.disk import SyncCost
    from bench.measures import Measured, Start
    from bench.plan import Cell, Effort


class Column(NamedTuple):
    """A figure of a cell. `higher_is_better` decides how the ratio is taken: above 1.0 is always Penstock's lead."""

    title: str
    figure: Callable[[Measured], float]
    form: str
    higher_is_better: bool


PRODUCE = (
    Column("records/s", lambda one: one.produced.records_per_second, ",.0f", True),
    Column("MB/s", lambda one: one.produced.megabytes_per_second, ".1f", True),
    Column("broker CPU s per million", lambda one: one.produce_cpu_s, ".2f", False),
)
LATENCY = (
    Column("p50 ms", lambda one: one.paced.p50_ms, ".0f", False),
    Column("p99 ms", lambda one: one.paced.p99_ms, ".0f", False),
    Column("p99.9 ms", lambda one: one.paced.p999_ms, ".0f", False),
)
CONSUME = (
    Column("records/s", lambda one: one.consumed.records_per_second, ",.0f", True),
    Column("MB/s", lambda one: one.consumed.megabytes_per_second, ".1f", True),
    Column("broker CPU s per million", lambda one: one.consume_cpu_s, ".2f", False),
)
BUSY = (
    Column("load's core, producing", lambda one: one.produce_busy.load, ".0%", False),
    Column("broker's core, producing", lambda one: one.produce_busy.broker, ".0%", False),
    Column("load's core, consuming", lambda one: one.consume_busy.load, ".0%", False),
    Column("broker's core, consuming", lambda one: one.consume_busy.broker, ".0%", False),
)
MEMORY = (Column("resident MiB", lambda one: one.resident_bytes / (1 << 20), ",.0f", False),)


class Results:
    """All rounds: figures by peer and cell, starts by peer."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, Cell], list[Measured]] = {}
        self.starts: dict[str, list[Start]] = {peer: [] for peer in PEERS}

    def add(self, peer: str, start: Start, measured: dict[Cell, Measured]) -> None:
        """One broker's life."""
        self.starts[peer].append(start)
        for cell, figures in measured.items():
            self.cells.setdefault((peer, cell), []).append(figures)

    def values(self, peer: str, cell: Cell, column: Column) -> list[float]:
        """A figure in every round."""
        return [column.figure(one) for one in self.cells[peer, cell]]


def write_report(results: Results, effort: Effort, cost: SyncCost, machine: str) -> str:
    """The whole report."""
    parts = [
        "## Figures\n",
        f"{machine}\n",
        f"{effort.rounds} alternated round{'s' if effort.rounds > 1 else ''}; the figures are medians, the ratio is "
        "Penstock's lead (above 1.0 it is better, for a time or a cost as well), and ± is the distance between lowest "
        "and highest round as a share of the median.\n",
        f"One 4 KiB write with its fdatasync on this disk: p50 {cost.p50_ms:.2f} ms, p99 {cost.p99_ms:.2f} ms, "
        f"highest {cost.highest_ms:.2f} ms.\n",
        _starts(results),
    ]
    for durability in DURABILITIES:
        parts.append(f"### {durability.words}\n")
        for title, columns in (
            ("Produce at full speed, acks=all, idempotent", PRODUCE),
            (
                f"Latency of produce at {effort.bytes_per_second / 1e6:g} MB/s",
                LATENCY,
            ),
            ("Consume from the beginning", CONSUME),
            ("Memory after the cell", MEMORY),
            ("How busy the cores were, the tools' start included", BUSY),
        ):
            parts.append(_table(results, durability.name, title, columns))
    return "\n".join(parts)


def shortfalls(results: Results) -> list[str]:
    """The cells and figures where Penstock is behind, in words, worst first."""
    behind = []
    for durability in DURABILITIES:
        for cell in cells(durability.name):
            for group, columns in (("produce", PRODUCE), ("latency", LATENCY), ("consume", CONSUME)):
                for column in columns:
                    lead = _lead(results, cell, column)
                    if lead is not None and lead < 1.0:
                        behind.append(
                            (lead, f"{durability.name}, {cell.words}: {group} {column.title} {lead:.2f}")
                        )
    return [words for _, words in sorted(behind)]


def _starts(results: Results) -> str:
    lines = ["| Start on an empty folder | ready after s | resident MiB |", "| --- | --: | --: |"]
    for peer in PEERS:
        starts = results.starts[peer]
        ready = middle([one.ready_after_s for one in starts])
        memory = middle([one.resident_bytes / (1 << 20) for one in starts])
        lines.append(f"| {_name(peer)} | {ready:.2f} | {memory:,.0f} |")
    return "\n".join(lines) + "\n"


def _table(results: Results, durability: str, title: str, columns: tuple[Column, ...]) -> str:
    # Who was busy is no contest: it says which side was the limit.
    ratio = () if columns is BUSY else ("ratio",)
    head = [
        title,
        *(f"{column.title}: {word}" for column in columns for word in ("Penstock", "Kafka", *ratio)),
    ]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' --: |' * (len(head) - 1)}"]
    for cell in cells(durability):
        row = [cell.words]
        for column in columns:
            row += [_value(results.values(peer, cell, column), column.form) for peer in PEERS]
            if ratio:
                lead = _lead(results, cell, column)
                row.append("-" if lead is None else f"**{lead:.2f}**")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _lead(results: Results, cell: Cell, column: Column) -> float | None:
    """Above 1.0 where Penstock is better; None where a time is below the tool's millisecond on both sides."""
    ours, theirs = (middle(results.values(peer, cell, column)) for peer in PEERS)
    if not column.higher_is_better:
        ours, theirs = theirs, ours
    if theirs == 0:
        return None if ours == 0 else float("inf")
    return ours / theirs


def _value(values: list[float], form: str) -> str:
    text = format(middle(values), form)
    return text if len(values) == 1 else f"{text} ±{spread(values):.0%}"


def _name(peer: str) -> str:
    return {"penstock": "Penstock", "kafka": "Apache Kafka 4.3.1"}[peer]
