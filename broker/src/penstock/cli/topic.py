"""`penstock topic`: list, create, describe, alter and delete topics."""

from __future__ import annotations

import click

from penstock.admin.models import Topic, TopicDetail, TopicList
from penstock.cli.common import admin_server_option, decoded, json_option, run_async, settings
from penstock.cli.output import settings_text, show_json, show_table, size_text
from penstock.client.http import HttpClient, path


async def _request(admin: str, method: str, where: str, body: object = None) -> bytes:
    async with HttpClient(admin) as client:
        return await client.request(method, where, body=body)


@click.group()
def topic() -> None:
    """List, create, describe, alter and delete topics.

    \b
    Example:
      penstock topic create payments --partitions 6 --config retention.ms=86400000
    """


@topic.command(name="list")
@admin_server_option
@json_option
def list_topics(admin: str, as_json: bool) -> None:
    """List all topics.

    \b
    Example:
      penstock topic list
    """
    answer = run_async(_request(admin, "GET", path("topics")))
    if as_json:
        show_json(answer)
        return
    topics = sorted(decoded(answer, TopicList).topics, key=lambda each: each.name)
    show_table(
        ["NAME", "PARTITIONS", "MESSAGES", "SIZE", "CONFIG"],
        [
            [each.name, each.partitions, each.messages, size_text(each.bytes), settings_text(each.config)]
            for each in topics
        ],
        empty="There are no topics yet; `penstock topic create NAME` makes one.",
    )


@topic.command()
@click.argument("name")
@click.option(
    "--partitions", type=click.IntRange(min=1), default=1, show_default=True, help="Number of partitions."
)
@click.option(
    "--config", "config", multiple=True, metavar="NAME=VALUE", help="A topic setting; may be repeated."
)
@click.option("--validate-only", is_flag=True, help="Check, but make nothing.")
@admin_server_option
@json_option
def create(
    name: str, partitions: int, config: tuple[str, ...], validate_only: bool, admin: str, as_json: bool
) -> None:
    """Make the topic NAME.

    \b
    Example:
      penstock topic create payments --partitions 6 --config retention.ms=86400000
    """
    body = {
        "name": name,
        "partitions": partitions,
        "config": settings("--config", config),
        "validateOnly": validate_only,
    }
    answer = run_async(_request(admin, "POST", path("topics"), body))
    if as_json:
        show_json(answer)
    else:
        made = decoded(answer, Topic)
        done = "can be made" if validate_only else "made"
        click.echo(f"topic {made.name} {done} with {made.partitions} partition{'s' * (made.partitions != 1)}")


@topic.command()
@click.argument("name")
@admin_server_option
@json_option
def describe(name: str, admin: str, as_json: bool) -> None:
    """Show partitions and configuration of the topic NAME. Settings that were set on the topic are marked.

    \b
    Example:
      penstock topic describe payments
    """
    answer = run_async(_request(admin, "GET", path("topics", name)))
    if as_json:
        show_json(answer)
        return
    found = decoded(answer, TopicDetail)
    click.echo(
        f"{found.name}  id {found.topic_id}  {found.partitions} partitions  {found.messages} messages  "
        f"{size_text(found.bytes)}"
    )
    show_table(
        ["PARTITION", "FIRST", "NEXT", "SIZE", "LEADER", "EPOCH"],
        [
            [
                each.partition,
                each.log_start,
                each.high_watermark,
                size_text(each.bytes),
                each.leader,
                each.epoch,
            ]
            for each in found.partition_details
        ],
    )
    show_table(
        ["SETTING", "VALUE", "SET"],
        [
            [setting, value if value is not None else "-", "here" if setting in found.config else ""]
            for setting, value in sorted(found.effective_config.items())
        ],
    )


@topic.command()
@click.argument("name")
@click.option("--partitions", type=click.IntRange(min=1), help="The new number of partitions; never fewer.")
@click.option(
    "--config", "config", multiple=True, metavar="NAME=VALUE", help="A topic setting; may be repeated."
)
@click.option(
    "--reset", multiple=True, metavar="NAME", help="A setting to be back to its default; may be repeated."
)
@admin_server_option
@json_option
def alter(
    name: str,
    partitions: int | None,
    config: tuple[str, ...],
    reset: tuple[str, ...],
    admin: str,
    as_json: bool,
) -> None:
    """Add partitions to the topic NAME, or change its settings.

    Keys go to other partitions once there are more of them.

    \b
    Example:
      penstock topic alter payments --partitions 12 --config retention.ms=3600000 --reset retention.bytes
    """
    changes = settings("--config", config)
    changes.update(dict.fromkeys(reset))
    if partitions is None and not changes:
        raise click.UsageError("nothing to change; give --partitions, --config or --reset.")
    body = {"partitions": partitions, "config": changes}
    answer = run_async(_request(admin, "PATCH", path("topics", name), body))
    if as_json:
        show_json(answer)
    else:
        now = decoded(answer, Topic)
        click.echo(f"topic {now.name} has {now.partitions} partitions  {settings_text(now.config)}".rstrip())


@topic.command()
@click.argument("name")
@admin_server_option
def delete(name: str, admin: str) -> None:
    """Delete the topic NAME and all its messages.

    \b
    Example:
      penstock topic delete payments
    """
    run_async(_request(admin, "DELETE", path("topics", name)))
    click.echo(f"topic {name} deleted")
