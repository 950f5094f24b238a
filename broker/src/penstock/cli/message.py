"""`penstock message`: look at one message, or find those of a key."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from penstock.admin.message_models import MessageDetail
from penstock.cli.common import admin_server_option, decoded, json_option, run_async
from penstock.cli.message_text import GROUP_COLUMNS, group_rows, message_lines
from penstock.cli.output import show_json, show_table
from penstock.cli.searching import KeySearch, Progress, key_options, pages
from penstock.client.http import HttpClient, path
from penstock.listeners.http.limits import PREVIEW_BYTES_DEFAULT, PREVIEW_BYTES_MAX

preview_option = click.option(
    "--preview",
    type=click.IntRange(0, PREVIEW_BYTES_MAX),
    default=PREVIEW_BYTES_DEFAULT,
    show_default=True,
    metavar="BYTES",
    help="How much of key and value is shown.",
)


@click.group()
def message() -> None:
    """Look at one message, or find those of a key.

    \b
    Examples:
      penstock message get orders 0 4711
      penstock message find --topic orders --key 4711 --since 2h
    """


@message.command()
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@click.argument("offset", type=click.IntRange(min=0))
@click.option(
    "--body",
    metavar="FILE|-",
    help="Write the whole value to FILE, or to standard output, and nothing else.",
)
@preview_option
@admin_server_option
@json_option
def get(
    topic: str, partition: int, offset: int, body: str | None, preview: int, admin: str, as_json: bool
) -> None:
    """Show the message at OFFSET of PARTITION of TOPIC, and which groups have read it.

    Values that are not text are shown as base64:…; --body writes them as they are. A message that is not committed yet
    is shown, too, and says so.

    \b
    Examples:
      penstock message get orders 0 4711
      penstock message get orders 0 4711 --body - > value.bin
    """
    where = path("topics", topic, "partitions", str(partition), "messages", str(offset))
    if body is not None:
        _write_body(run_async(_body(admin, where)), body)
        return
    answer = run_async(_get(admin, where, preview))
    if as_json:
        show_json(answer)
        return
    found = decoded(answer, MessageDetail)
    click.echo("\n".join(message_lines(found)))
    show_table(GROUP_COLUMNS, group_rows(found), empty="No group has committed a position in this partition.")
    if found.group_count > len(found.groups):
        click.echo(f"… and {found.group_count - len(found.groups)} groups more", err=True)


async def _get(admin: str, where: str, preview: int) -> bytes:
    async with HttpClient(admin) as client:
        return await client.request("GET", where, query={"preview": str(preview)})


async def _body(admin: str, where: str) -> bytes | None:
    """None where the value is null: that is told by the message, because an empty answer may be an empty value."""
    async with HttpClient(admin) as client:
        answer = await client.request("GET", f"{where}/value")
        if answer:
            return answer
        found = await client.get(where, MessageDetail)
        return None if found.value is None else answer


def _write_body(body: bytes | None, file: str) -> None:
    if body is None:
        raise click.ClickException("The message's value is null (a tombstone); there is nothing to write.")
    if file == "-":
        sys.stdout.buffer.write(body)
        return
    try:
        Path(file).write_bytes(body)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from error
    click.echo(f"wrote {len(body)} bytes to {file}", err=True)


@message.command()
@click.option("--topic", required=True, help="The topic to search.")
@key_options
@click.option("--partition", type=click.IntRange(min=0), help="Search this partition alone.")
@click.option(
    "--since", metavar="WHEN", help="Nothing older than a time (2026-11-21T08:00:00Z) or so long ago (2h)."
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Stop after so many messages."
)
@preview_option
@admin_server_option
@json_option
def find(
    topic: str,
    key: str | None,
    key_base64: str | None,
    partition: int | None,
    since: str | None,
    limit: int,
    preview: int,
    admin: str,
    as_json: bool,
) -> None:
    """Find messages by their key, newest first within a partition.

    The partition where Kafka's default partitioner puts the key is searched first, then all others, because not all
    producers choose alike. A long search says on stderr how far it is; --since keeps it short, because what is older is
    not even read. Exit code 1 when there is none. --json prints one object per line.

    \b
    Examples:
      penstock message find --topic orders --key 4711
      penstock message find --topic orders --key 4711 --since 2h --limit 1 --json
    """
    search = KeySearch(topic, key, key_base64, partition, since, preview)
    progress = run_async(_find(admin, search, limit, as_json))
    progress.warn()
    if not progress.found:
        raise click.ClickException(f"No message of that key was found in {topic}: {progress.sentence}.")


async def _find(admin: str, search: KeySearch, limit: int, as_json: bool) -> Progress:
    progress = Progress()
    async with HttpClient(admin) as client:
        async for messages in pages(client, search, limit, progress):
            for found in messages:
                click.echo(
                    msgspec.json.encode(found).decode() if as_json else "\n".join(message_lines(found))
                )
    return progress
