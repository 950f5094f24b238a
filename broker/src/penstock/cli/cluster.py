"""`penstock cluster`: who is in the cluster, and how the broker that was asked is doing."""

from __future__ import annotations

import click
import msgspec

from penstock.admin.models import Broker, Cluster
from penstock.cli.common import admin_server_option, decoded, json_option, run_async
from penstock.cli.output import show_json, show_table, size_text
from penstock.client.http import HttpClient, path


async def _ask(admin: str) -> tuple[bytes, bytes]:
    async with HttpClient(admin) as client:
        return await client.request("GET", path("cluster")), await client.request("GET", path("broker"))


@click.command()
@admin_server_option
@json_option
def cluster(admin: str, as_json: bool) -> None:
    """Show the cluster's shards and members, and the state of the broker that answers.

    \b
    Example:
      penstock cluster
    """
    answers = run_async(_ask(admin))
    if as_json:
        document = {"cluster": msgspec.Raw(answers[0]), "broker": msgspec.Raw(answers[1])}
        show_json(msgspec.json.encode(document))
        return
    found, asked = decoded(answers[0], Cluster), decoded(answers[1], Broker)
    click.echo(f"{found.cluster_name}  id {found.cluster_id}  {found.mode}  Penstock {found.version}")
    show_table(
        ["SHARD", "EPOCH", "BROKER", "NODE", "ROLE", "IN SYNC", "LAG", "ADDRESSES"],
        [
            [
                shard.id,
                shard.epoch,
                member.name,
                member.node_id,
                member.role,
                "yes" if member.in_sync else "no",
                size_text(member.lag_bytes),
                " ".join(f"{name}={address}" for name, address in member.address.items()),
            ]
            for shard in found.shards
            for member in shard.members
        ],
    )
    click.echo(
        f"{asked.name}: up {asked.uptime_seconds:.0f} s, log {size_text(asked.log.bytes)}, disk "
        f"{size_text(asked.disk.used_bytes)} of {size_text(asked.disk.total_bytes)} ({asked.disk.state}), "
        f"{asked.rates.messages_in_per_second:.0f} messages/s in"
    )
