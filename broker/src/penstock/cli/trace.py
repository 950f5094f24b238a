"""`penstock trace`: the way of one message, or of a trace, as a timeline."""

from __future__ import annotations

import re

import click

from penstock.admin.message_models import Trace
from penstock.cli.common import admin_server_option, decoded, json_option, run_async
from penstock.cli.message_text import timeline_lines
from penstock.cli.output import show_json
from penstock.cli.searching import KeySearch, Progress, key_options, pages
from penstock.client.http import HttpClient, path

_USAGE = (
    "give --id, or --topic with --partition and --offset, or --topic with --key (and --since, --partition)."
)
_ID = re.compile("[0-9a-fA-F]{32}").fullmatch


@click.command()
@click.option("--id", "trace_id", metavar="TRACE_ID", help="The trace: 32 hexadecimal digits.")
@click.option("--topic", help="The message's topic.")
@click.option("--partition", type=click.IntRange(min=0), help="Its partition; with --key, the one to search.")
@click.option("--offset", type=click.IntRange(min=0), help="Its offset; needs --partition.")
@key_options
@click.option("--since", metavar="WHEN", help="With --key: nothing older than a time, or so long ago (2h).")
@click.option(
    "--before",
    type=click.IntRange(min=0),
    metavar="OFFSET",
    help="Search the events that were written before this one, as an answer says where more may be.",
)
@admin_server_option
@json_option
def trace(
    trace_id: str | None,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    key: str | None,
    key_base64: str | None,
    since: str | None,
    before: int | None,
    admin: str,
    as_json: bool,
) -> None:
    """Show the way of one message: produced, received, stored, committed, delivered, and who has read it.

    A message that was followed is told with the times of each step where events are kept (tracing.topic.enabled). Of any
    other it says what message, log and groups can still tell: a group's time is when it committed its position last, so it
    had read the message by then.

    With --key it is the newest message of that key in the first partition that has one, searched as `penstock message
    find` does.

    \b
    Examples:
      penstock trace --id 0af7651916cd43dd8448eb211c80319c
      penstock trace --topic orders --partition 0 --offset 4711
      penstock trace --topic orders --key 4711
    """
    query, search = _asked(trace_id, topic, partition, offset, (key, key_base64, since))
    if before is not None:
        query["before"] = str(before)
    answer = run_async(_trace(admin, query, search))
    told = decoded(answer, Trace)
    if as_json:
        show_json(answer)
    else:
        _show(told)
    if told.message is None and not told.events:
        click.get_current_context().exit(1)


def _asked(
    trace_id: str | None,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    by_key: tuple[str | None, str | None, str | None],
) -> tuple[dict[str, str], KeySearch | None]:
    """The question as the admin API takes it, and the search that has to come first. Raises click.UsageError."""
    key, key_base64, since = by_key
    if trace_id is not None:
        if (topic, partition, offset, *by_key) != (None,) * 6:
            raise click.UsageError(_USAGE)
        if _ID(trace_id) is None:
            raise click.UsageError("--id is a trace id of 32 hexadecimal digits.")
        return {"id": trace_id}, None
    has_key = key is not None or key_base64 is not None
    if topic is None or has_key == (offset is not None):
        raise click.UsageError(_USAGE)
    if has_key:
        return {}, KeySearch(topic, key, key_base64, partition, since, preview=0)
    if partition is None or since is not None:
        raise click.UsageError(_USAGE)
    return {"topic": topic, "partition": str(partition), "offset": str(offset)}, None


def _show(told: Trace) -> None:
    found = told.message
    if found is not None:
        click.echo(f"{found.topic}, partition {found.partition}, offset {found.offset}")
    elif told.events:
        click.echo(f"trace {told.trace_id}")
    if told.events:
        click.echo("\n".join(timeline_lines(told.events)))
    if told.note:
        click.echo(told.note, err=True)
    if told.unreadable:
        click.echo(
            f"{told.unreadable} events of it cannot be read: another release of Penstock wrote them.",
            err=True,
        )
    if told.next is not None:
        click.echo(
            f"Not all events were searched: those written earlier with --before {told.next}.", err=True
        )


async def _trace(admin: str, query: dict[str, str], search: KeySearch | None) -> bytes:
    async with HttpClient(admin) as client:
        if search is not None:
            partition, offset = await _newest(client, search)
            query |= {"topic": search.topic, "partition": str(partition), "offset": str(offset)}
        return await client.request("GET", path("traces"), query=query)


async def _newest(client: HttpClient, search: KeySearch) -> tuple[int, int]:
    progress = Progress()
    async for messages in pages(client, search, 1, progress):
        for found in messages:
            return found.partition, found.offset
    raise click.ClickException(f"No message of that key was found in {search.topic}: {progress.sentence}.")
