"""Answers on the terminal: tables for people, aligned text for pipes, JSON for scripts.

rich takes a fifth of a second to import, so it is imported only when a table is really shown on a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
# What moves the cursor or starts an escape sequence; a message must not be able to draw on a terminal.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if code not in (9, 10)}


def show_json(content: bytes) -> None:
    """The server's answer as it came."""
    click.echo(content.decode())


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "") -> None:
    """Rows under column names; numbers to the right. `empty` is said on stderr when there are no rows."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    right = [all(_is_number(row[number]) for row in rows) for number in range(len(columns))]
    if not rows and empty:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _rich_table(columns, cells, right)
    else:
        _plain_table(columns, cells, right)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column, to_right in zip(columns, right, strict=True):
        table.add_column(column, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in [columns, *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def printable(text: str) -> str:
    """Text without control characters, which are written out."""
    return text.translate(_CONTROLS)


def size_text(size: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(size)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def settings_text(values: dict[str, str]) -> str:
    """Settings on one line."""
    return " ".join(f"{name}={value}" for name, value in values.items())
