"""What people see of `penstock up`: a live table on a terminal, lines otherwise."""

from __future__ import annotations

import asyncio
import collections
import time
from typing import TYPE_CHECKING, Any, Final

import click

from penstock_operator.api.names import MESSAGE_CLUSTER
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError
from penstock_operator.snapshot.shard import UNKNOWN

if TYPE_CHECKING:
    from rich.table import Table

    from penstock_operator.broker_admin import HttpBrokerAdmin
    from penstock_operator.local.cluster import LocalCluster
    from penstock_operator.local.runtime import LocalRuntime

REFRESH_S: Final = 1.0
LINES_SHOWN: Final = 8


class PlainView:
    """One line for everything that happens."""

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(line)

    async def run(self, _: LocalRuntime) -> None:
        """Nothing is shown but lines."""


class LiveView:
    """A table that is drawn anew every second, with the last lines below it."""

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_SHOWN)

    def say(self, line: str) -> None:
        """Keep a line for the next drawing."""
        stamp = time.strftime("%H:%M:%S")
        for part in line.splitlines():
            self._lines.append(f"{stamp} {part}")

    async def run(self, runtime: LocalRuntime) -> None:
        """Draw until cancelled."""
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as live:
            while True:
                rows = [
                    row for cluster in list(runtime.clusters.values()) for row in await broker_rows(cluster)
                ]
                table = draw(rows + dependent_rows(runtime))
                live.update(Group(table, Text("\n".join(self._lines), style="dim")), refresh=True)
                await asyncio.sleep(REFRESH_S)


Row = tuple[str, str, str, str, str]


async def broker_rows(cluster: LocalCluster) -> list[Row]:
    """Name, role, address, messages/s and lag behind the leader of each broker; what cannot be asked is a dash."""
    listener = cluster.cluster.spec.listeners[0].name
    admins = cluster.admins
    return list(
        await asyncio.gather(
            *(
                _broker_row(cluster, name, broker.listeners.get(listener, "-"), admins.get(name))
                for name, broker in cluster.brokers.items()
            )
        )
    )


async def _broker_row(cluster: LocalCluster, name: str, address: str, admin: HttpBrokerAdmin | None) -> Row:
    if admin is None:
        return (name, "starting", address, "-", "-")
    member = cluster.view.member(name)
    try:
        broker = await admin.broker()
        rate = f"{broker['rates']['messagesInPerSecond']:.0f}"
        role = str(broker.get("role") or (member.role if member is not None else UNKNOWN))
    except (AdminError, AdminUnreachableError, KeyError, TypeError, ValueError):
        return (name, "not answering", address, "-", "-")
    # Only the leader knows how far behind the others are.
    lag = f"{member.lag_bytes} B" if member is not None and cluster.view.from_leader else "-"
    return (name, role, address, rate, lag)


def dependent_rows(runtime: LocalRuntime) -> list[Row]:
    """Topics and groups with what their status says."""
    rows = []
    for (kind, name), resource in runtime.store.all().items():
        if kind == MESSAGE_CLUSTER:
            continue
        status = resource.get("status", {})
        ready: dict[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        role = status.get("state") or ready.get("reason", "waiting")
        rows.append((f"{kind} {name}", role, "-", "-", str(status.get("lag", "-"))))
    return rows


def draw(rows: list[Row]) -> Table:
    """The table."""
    from rich.table import Table

    table = Table(title="penstock up - Ctrl-C stops everything")
    for column in ("NAME", "ROLE", "ADDRESS", "MESSAGES/S", "LAG"):
        table.add_column(column, justify="right" if column in ("MESSAGES/S", "LAG") else "left")
    for row in rows:
        table.add_row(*row)
    return table
