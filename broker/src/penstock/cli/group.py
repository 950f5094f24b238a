"""`penstock group`: list, describe, declare, reset and delete consumer groups."""

from __future__ import annotations

from typing import Any

import click

from penstock.admin.models import GroupDetail, GroupList, QueueGroup, ResetResult
from penstock.cli.common import admin_server_option, decoded, json_option, position, run_async
from penstock.cli.output import show_json, show_table
from penstock.cli.queue import DURATION
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
    if found.queue is not None:
        _show_queue(found.queue)
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


def _show_queue(queue: QueueGroup) -> None:
    age = queue.oldest_message_age_ms
    click.echo(
        f"in flight {queue.in_flight}  waiting {queue.waiting}  dead letters {queue.dead_letters}"
        f" ({queue.dead_letter_topic})" + ("" if age is None else f"  oldest {age / 1000:.1f} s")
    )
    if queue.window_full:
        click.echo(
            f"nothing new is handed out: {queue.max_in_flight} messages of the group are in flight, which is the most"
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
@click.option(
    "--mode",
    type=click.Choice(["stream", "queue"]),
    default="stream",
    show_default=True,
    help="Members read partitions by offset (stream), or lease messages and acknowledge each (queue).",
)
@click.option("--lease", type=DURATION, metavar="DURATION", help="Queue: how long a lease lasts [30s].")
@click.option("--max-in-flight", type=int, help="Queue: messages in flight at most [10000].")
@click.option(
    "--max-deliveries", type=int, help="Queue: how often a message is handed out before it is given up [16]."
)
@click.option(
    "--backoff",
    type=DURATION,
    metavar="DURATION",
    help="Queue: how long a message waits that failed once [10s].",
)
@click.option("--backoff-max", type=DURATION, metavar="DURATION", help="Queue: the longest such wait [2h].")
@click.option(
    "--dead-letters", metavar="TOPIC", help="Queue: where messages go that are given up [NAME.dlq]."
)
@admin_server_option
@json_option
def declare(
    name: str,
    topics: tuple[str, ...],
    start: str,
    mode: str,
    lease: int | None,
    max_in_flight: int | None,
    max_deliveries: int | None,
    backoff: int | None,
    backoff_max: int | None,
    dead_letters: str | None,
    admin: str,
    as_json: bool,
) -> None:
    """Set up the group NAME before its consumers come, with the position that they begin at.

    \b
    Examples:
      penstock group declare billing --topic payments --start earliest
      penstock group declare mails --topic orders --mode queue --lease 1m --max-deliveries 5
    """
    body: dict[str, Any] = {"mode": mode, "topics": list(topics), "start": position("--start", start)}
    body |= _given(
        lease=_given(durationMs=lease, maxInFlight=max_in_flight),
        retry=_given(maxDeliveries=max_deliveries, backoff=_given(initialMs=backoff, maxMs=backoff_max)),
        deadLetter=_given(topicName=dead_letters),
    )
    answer = run_async(_request(admin, "PUT", path("groups", name), body))
    if as_json:
        show_json(answer)
    else:
        click.echo(f"group {name} declared for {', '.join(decoded(answer, GroupDetail).topics)}")


def _given(**values: Any) -> dict[str, Any]:
    """What was said; the broker knows the rest."""
    return {name: value for name, value in values.items() if value is not None and value != {}}


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
