"""`penstock consume`: read a topic, whole or one partition, from some position to the end or for ever."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Final, TypeVar

import click
import msgspec

from penstock.cli.common import data_server_option, json_option, rfc3339, run_async
from penstock.cli.output import printable
from penstock.client.http import HttpClient, ServerProblemError, UnreachableError, path
from penstock.listeners.http.models import BrowseReply, ContentOut, FetchReply, Message

FOLLOW_WAIT_MS: Final = 25_000
"""How long one request of --follow waits at the server."""

FOLLOW_ATTEMPTS_MAX: Final = 60
FOLLOW_RETRY_SECONDS: Final = 1.0
"""How often, and at what distance, --follow asks a broker that is away."""

HTTP_UNAVAILABLE: Final = 503
REQUEST_MESSAGES: Final = 500

T = TypeVar("T")


@click.command()
@click.argument("topic")
@click.option(
    "--from",
    "start",
    default="earliest",
    show_default=True,
    metavar="WHERE",
    help="earliest, latest, a time (2026-11-21T08:00:00Z), or with --partition an offset.",
)
@click.option("--partition", type=click.IntRange(min=0), help="Read this partition alone.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many messages.")
@click.option("--follow", "-f", is_flag=True, help="At the end, wait for more.")
@click.option("--verbose", "-v", is_flag=True, help="Show partition, offset, time, key and headers, too.")
@data_server_option
@json_option
def consume(
    topic: str,
    start: str,
    partition: int | None,
    limit: int | None,
    follow: bool,
    verbose: bool,
    server: str,
    as_json: bool,
) -> None:
    """Print the messages of TOPIC, oldest first, one per line.

    All partitions are merged by timestamp. Values that are not text are printed as base64:…; --json prints one JSON
    object per message, which `penstock produce` and the data API take back.

    \b
    Examples:
      penstock consume greetings
      penstock consume payments --from 2026-11-21T08:00:00Z --limit 10 --json
      penstock consume payments --from latest --follow
    """
    if start.isdecimal():
        if partition is None:
            raise click.UsageError(
                "--from takes an offset only with --partition: each partition counts its own."
            )
    elif start not in ("earliest", "latest"):
        start = rfc3339("--from", start)
    run_async(_consume(server, topic, start, partition, limit, follow, verbose, as_json))


async def _consume(
    server: str,
    topic: str,
    start: str,
    partition: int | None,
    limit: int | None,
    follow: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    left = limit
    async with HttpClient(server) as client:
        pages = (
            _topic_pages(client, topic, start, follow)
            if partition is None
            else _partition_pages(client, topic, partition, start, follow)
        )
        async for messages in pages:
            for message in messages[:left]:
                _show(message, verbose, as_json)
            if left is not None:
                left -= len(messages)
                if left <= 0:
                    return


async def _patient_get(
    client: HttpClient, where: str, kind: type[T], query: dict[str, str], follow: bool
) -> T:
    """One page; with --follow, a broker that is away for a while is asked again until it is back."""
    for attempt in range(FOLLOW_ATTEMPTS_MAX):
        try:
            return await client.get(where, kind, query=query, wait_seconds=FOLLOW_WAIT_MS / 1000)
        except (UnreachableError, ServerProblemError) as error:
            away = isinstance(error, UnreachableError) or error.status == HTTP_UNAVAILABLE
            if not follow or not away or attempt == FOLLOW_ATTEMPTS_MAX - 1:
                raise
            if attempt == 0:
                click.echo(f"{str(error).rstrip('.')}; trying again", err=True)
            await asyncio.sleep(FOLLOW_RETRY_SECONDS)
    raise AssertionError("the last attempt returns or raises")


async def _topic_pages(
    client: HttpClient, topic: str, start: str, follow: bool
) -> AsyncIterator[list[Message]]:
    where = {"from": start}
    while True:
        query = {**where, "limit": str(REQUEST_MESSAGES), "waitMs": str(FOLLOW_WAIT_MS if follow else 0)}
        page = await _patient_get(client, path("topics", topic, "messages"), BrowseReply, query, follow)
        yield page.messages
        if page.at_end and not follow:
            return
        where = {"next": page.next}


async def _partition_pages(
    client: HttpClient, topic: str, partition: int, start: str, follow: bool
) -> AsyncIterator[list[Message]]:
    offset = start
    while True:
        query = {
            "offset": offset,
            "limit": str(REQUEST_MESSAGES),
            "waitMs": str(FOLLOW_WAIT_MS if follow else 0),
        }
        where = path("topics", topic, "partitions", str(partition), "messages")
        page = await _patient_get(client, where, FetchReply, query, follow)
        yield page.messages
        if page.next_offset >= page.high_watermark and not follow:
            return
        offset = str(page.next_offset)


def _show(message: Message, verbose: bool, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(message).decode())
        return
    value = _text(message.value)
    if verbose:
        pairs = message.headers.items() if isinstance(message.headers, dict) else message.headers
        headers = " ".join(f"{printable(name)}={_text(content)}" for name, content in pairs)
        place = f"partition={message.partition} offset={message.offset} timestamp={message.timestamp}"
        key = "" if message.key is None else f" key={_text(message.key)}"
        value = f"{place}{key}{' ' if headers else ''}{headers}\t{value}"
    click.echo(value)


def _text(content: str | ContentOut | None) -> str:
    """Content for a terminal: no control characters, and one line's worth of a name for what is not text."""
    if content is None:
        return "(null)"
    if isinstance(content, str):
        return printable(content)
    if not isinstance(content.base64, msgspec.UnsetType):
        return "base64:" + base64.b64encode(content.base64).decode()
    assert not isinstance(content.json, msgspec.UnsetType)
    return printable(bytes(content.json).decode())
