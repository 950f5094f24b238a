"""`penstock trace`: the way of one message as a timeline."""

from __future__ import annotations

import click

from penstock.admin.message_models import Trace
from penstock.cli.common import admin_server_option, decoded, json_option, run_async
from penstock.cli.message_text import timeline_lines
from penstock.cli.output import show_json
from penstock.cli.searching import KeySearch, Progress, key_options, pages
from penstock.client.http import HttpClient, path


@click.command()
@click.option("--topic", required=True, help="The message's topic.")
@click.option("--partition", type=click.IntRange(min=0), help="Its partition; with --key, the one to search.")
@click.option("--offset", type=click.IntRange(min=0), help="Its offset; needs --partition.")
@key_options
@click.option("--since", metavar="WHEN", help="With --key: nothing older than a time, or so long ago (2h).")
@admin_server_option
@json_option
def trace(
    topic: str,
    partition: int | None,
    offset: int | None,
    key: str | None,
    key_base64: str | None,
    since: str | None,
    admin: str,
    as_json: bool,
) -> None:
    """Show the way of one message: produced, stored, committed, and which groups have read it.

    With --key it is the newest message of that key in the first partition that has one, searched as `penstock message
    find` does. The times are those that message, log and groups can tell: a group's is when it committed its position
    last, so it had read the message by then.

    \b
    Examples:
      penstock trace --topic orders --partition 0 --offset 4711
      penstock trace --topic orders --key 4711
    """
    by_key = key is not None or key_base64 is not None
    if by_key == (offset is not None) or (offset is not None and (partition is None or since is not None)):
        raise click.UsageError("give --partition and --offset, or --key (and --since, --partition).")
    search = KeySearch(topic, key, key_base64, partition, since, preview=0) if by_key else None
    answer = run_async(_trace(admin, topic, partition or 0, offset or 0, search))
    if as_json:
        show_json(answer)
        return
    told = decoded(answer, Trace)
    found = told.message
    click.echo(f"{found.topic}, partition {found.partition}, offset {found.offset}")
    click.echo("\n".join(timeline_lines(told.events)))
    if not told.sampled:
        click.echo("Nobody watched this message; this is what log and groups can tell.", err=True)


async def _trace(admin: str, topic: str, partition: int, offset: int, search: KeySearch | None) -> bytes:
    async with HttpClient(admin) as client:
        if search is not None:
            partition, offset = await _newest(client, search)
        query = {"topic": topic, "partition": str(partition), "offset": str(offset)}
        return await client.request("GET", path("traces"), query=query)


async def _newest(client: HttpClient, search: KeySearch) -> tuple[int, int]:
    progress = Progress()
    async for messages in pages(client, search, 1, progress):
        for found in messages:
            return found.partition, found.offset
    raise click.ClickException(f"No message of that key was found in {search.topic}: {progress.sentence}.")
