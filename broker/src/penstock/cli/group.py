"""`penstock group`: list, describe, declare, reset and delete consumer groups."""

from __future__ import annotations

import click

from penstock.admin.models import GroupDetail, GroupList, ResetResult
from penstock.cli.common import admin_server_option, decoded, json_option, position, run_async
from penstock.cli.output import show_json, show_table
from penstock.client.http import HttpClient, path


async def _request(admin: str, method: str, where: str, body: object = None) -> bytes:
    async with HttpClient(admin) as client:
        return await client.request(method, where, body=body)


@click.group()
def group() -> None:
    """List, describe, declare, reset and delete consumer groups.

    \b
    Example:
      penstock group describe billing
    """


@group.command(name="list")
@admin_server_option
@json_option
def list_groups(admin: str, as_json: bool) -> None:
    """List all consumer groups.

    \b
    Example:
      penstock group list
    """
    answer = run_async(_request(admin, "GET", path("groups")))
    if as_json:
        show_json(answer)
        return
    groups = sorted(decoded(answer, GroupList).groups, key=lambda each: each.name)
    show_table(
        ["NAME", "MODE", "STATE", "MEMBERS", "LAG"],
        [[each.name, each.mode, each.state, each.members, each.lag] for each in groups],
        empty="There are no consumer groups yet; a consumer that joins one makes it, or `penstock group declare`.",
    )


@group.command()
@click.argument("name")
@admin_server_option
@json_option
def describe(name: str, admin: str, as_json: bool) -> None:
    """Show members, positions and lag of the group NAME.

    \b
    Example:
      penstock group describe billing
    """
    answer = run_async(_request(admin, "GET", path("groups", name)))
    if as_json:
        show_json(answer)
        return
    found = decoded(answer, GroupDetail)
    declared = f"  declared for {', '.join(found.topics)}" if found.declared and found.topics else ""
    click.echo(f"{found.name}  {found.mode}  {found.state}  lag {found.lag}{declared}")
    if found.members:
        show_table(
            ["MEMBER", "CLIENT", "HOST", "ASSIGNED"],
            [
                [
                    member.instance_id or member.member_id,
                    member.client_id,
                    member.host,
                    " ".join(
                        f"{each.topic}:{','.join(map(str, each.partitions))}" for each in member.assignments
                    ),
                ]
                for member in found.members
            ],
        )
    if found.offsets:
        show_table(
            ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"],
            [
                [each.topic, each.partition, each.offset, each.high_watermark, each.lag]
                for each in found.offsets
            ],
        )


@group.command()
@click.argument("name")
@click.option(
    "--topic", "topics", multiple=True, required=True, metavar="TOPIC", help="A topic; may be repeated."
)
@click.option(
    "--start",
    default="latest",
    show_default=True,
    metavar="WHERE",
    help="Where partitions begin that have no position yet: earliest, latest, an offset or a time.",
)
@click.option("--mode", default="stream", show_default=True, help="How the group consumes.")
@admin_server_option
@json_option
def declare(name: str, topics: tuple[str, ...], start: str, mode: str, admin: str, as_json: bool) -> None:
    """Set up the group NAME before its consumers come, with the position that they begin at.

    \b
    Example:
      penstock group declare billing --topic payments --start earliest
    """
    body = {"mode": mode, "topics": list(topics), "start": position("--start", start)}
    answer = run_async(_request(admin, "PUT", path("groups", name), body))
    if as_json:
        show_json(answer)
    else:
        click.echo(f"group {name} declared for {', '.join(decoded(answer, GroupDetail).topics)}")


@group.command()
@click.argument("name")
@click.option("--to", required=True, metavar="WHERE", help="earliest, latest, an offset or a time.")
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only this topic; may be repeated.")
@click.option("--force", is_flag=True, help="Also while members are active; they are made to rejoin.")
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@admin_server_option
@json_option
def reset(
    name: str, to: str, topics: tuple[str, ...], force: bool, dry_run: bool, admin: str, as_json: bool
) -> None:
    """Move the positions of the group NAME.

    \b
    Examples:
      penstock group reset billing --to earliest
      penstock group reset billing --to 2026-11-21T08:00:00Z --topic payments --dry-run
    """
    body = {"to": position("--to", to), "topics": list(topics), "force": force, "dryRun": dry_run}
    answer = run_async(_request(admin, "POST", path("groups", name, "reset"), body))
    if as_json:
        show_json(answer)
        return
    moved = decoded(answer, ResetResult).offsets
    show_table(
        ["TOPIC", "PARTITION", "FROM", "TO"],
        [[each.topic, each.partition, each.from_offset, each.to_offset] for each in moved],
        empty=f"The group {name} has no positions to move.",
    )


@group.command()
@click.argument("name")
@admin_server_option
def delete(name: str, admin: str) -> None:
    """Delete the group NAME and its positions; it must have no active members.

    \b
    Example:
      penstock group delete billing
    """
    run_async(_request(admin, "DELETE", path("groups", name)))
    click.echo(f"group {name} deleted")
