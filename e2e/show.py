"""What the demos show: one line per step, a bar while messages flow, a table and the last line at the end.

People read stderr; the table and the last line, which scripts look for, go to stdout.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.testing.ledger import Verdict

_people = Console(stderr=True, highlight=False)
_results = Console(highlight=False)
_started = time.monotonic()


def step(text: str) -> None:
    """One line that says what happens now, with the seconds since the start."""
    _people.print(f"[dim]{time.monotonic() - _started:6.1f} s[/dim]  {text}", soft_wrap=True)


@contextmanager
def flow(messages: int) -> Iterator[Callable[[int, int, int], None]]:
    """Bars for sent, acknowledged and read messages; yields what moves them."""
    columns = (
        TextColumn("          {task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_people, transient=not _people.is_terminal) as progress:
        bars = [progress.add_task(name, total=messages) for name in ("sent", "acknowledged", "read back")]

        def move(sent: int, acked: int, received: int) -> None:
            for bar, count in zip(bars, (sent, acked, received), strict=True):
                progress.update(bar, completed=count)

        yield move


def text(lines: str) -> None:
    """What a command printed, for people and scripts alike."""
    _results.print(lines, soft_wrap=True, markup=False)


def result(verdict: Verdict, rows: list[tuple[str, str]], name: str) -> int:
    """The table and the last line; returns the exit code, 0 only when nothing acknowledged is missing or disordered."""
    table = Table(title="What happened", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    recovered = "never interrupted" if verdict.recovered_ms is None else f"{verdict.recovered_ms} ms"
    for label, value in (
        *rows,
        ("messages sent", f"{verdict.sent:,}"),
        ("acknowledged (acks=all)", f"{verdict.acked:,}"),
        ("read back", f"{verdict.received:,}"),
        ("acknowledged and lost", str(verdict.lost)),
        ("out of order in their partition", str(verdict.disordered)),
        ("stored twice", str(verdict.duplicated)),
        ("from the kill to the next acknowledgement", recovered),
    ):
        table.add_row(label, value)
    _results.print(table)
    for example in verdict.examples:
        _people.print(f"[red]{example}[/red]")
    killed = verdict.recovered_ms is not None
    if not killed:
        _people.print(
            "[red]the broker was not killed while messages flowed, so this run proves nothing[/red]"
        )
    print(verdict.line(name), flush=True)
    return 0 if verdict.good and killed and verdict.unacked == 0 else 1
