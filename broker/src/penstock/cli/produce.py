"""`penstock produce`: messages from the command line or from standard input, one per line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import click

from penstock.cli.common import data_server_option, json_option, run_async
from penstock.cli.output import show_json
from penstock.client.http import ClientError, HttpClient, decode, path
from penstock.listeners.http.models import ProduceReply

READ_BYTES: Final = 64 * 1024
LINE_BYTES_MAX: Final = 1024 * 1024
"""The longest line that is one message; the broker's own bound is about the same."""

REQUEST_MESSAGES_MAX: Final = 1000
REQUEST_BYTES_MAX: Final = 1024 * 1024


@click.command()
@click.argument("topic")
@click.argument("messages", nargs=-1)
@click.option("--key", help="The key of every message; it decides the partition.")
@click.option(
    "--header", multiple=True, metavar="NAME=VALUE", help="A header of every message; may be repeated."
)
@click.option(
    "--partition", type=click.IntRange(min=0), help="The partition, instead of the key's or the next one."
)
@click.option(
    "--acks",
    type=click.Choice(["all", "leader", "none"]),
    default="all",
    show_default=True,
    help="Whom to wait for: every in-sync copy, the leader, nobody.",
)
@data_server_option
@json_option
def produce(
    topic: str,
    messages: tuple[str, ...],
    key: str | None,
    header: tuple[str, ...],
    partition: int | None,
    acks: str,
    server: str,
    as_json: bool,
) -> None:
    """Write MESSAGES to TOPIC, or each line of standard input when there are none.

    \b
    Examples:
      penstock produce greetings "hello, world" --key alice
      journalctl -f | penstock produce journal --header host=$(hostname)
    """
    common: dict[str, Any] = {"key": key, "headers": [_header(text) for text in header]}
    if partition is not None:
        common["partition"] = partition
    run_async(_produce(server, topic, messages, common, acks, as_json))


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--header {text!r} is not written as NAME=VALUE.")
    return name, value


async def _produce(
    server: str, topic: str, messages: Sequence[str], common: dict[str, Any], acks: str, as_json: bool
) -> None:
    stored: dict[int, int] = {}
    async with HttpClient(server) as client:
        async for values in _requests(messages):
            body = {"messages": [{**common, "value": value} for value in values], "acks": acks}
            answer = await client.request("POST", path("topics", topic, "messages"), body=body)
            if as_json:
                show_json(answer)
            for place in decode(answer, ProduceReply).offsets:
                stored[place.partition] = stored.get(place.partition, 0) + 1
    if not as_json:
        count = sum(stored.values())
        places = ", ".join(
            f"{number} to partition {partition}" for partition, number in sorted(stored.items())
        )
        click.echo(
            f"wrote {count} message{'s' * (count != 1)} to {topic}" + (f": {places}" if stored else "")
        )


async def _requests(messages: Sequence[str]) -> AsyncIterator[list[Any]]:
    """Values by the request: the arguments, or what standard input has at a time."""
    if messages:
        for values in bounded_requests(messages):
            yield values
        return
    async for lines in stdin_lines():
        for values in bounded_requests([line_value(line) for line in lines]):
            yield values


def bounded_requests(values: Iterable[Any]) -> Iterable[list[Any]]:
    """Lists of values that stay under the bounds of one request."""
    request: list[Any] = []
    size = 0
    for value in values:
        length = len(value) if isinstance(value, str) else len(value["base64"])
        if request and (len(request) == REQUEST_MESSAGES_MAX or size + length > REQUEST_BYTES_MAX):
            yield request
            request, size = [], 0
        request.append(value)
        size += length
    if request:
        yield request


def line_value(line: bytes) -> Any:
    """A line as a message's value: text where it is UTF-8, else base64."""
    import base64

    try:
        return line.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(line).decode()}


async def stdin_lines() -> AsyncIterator[list[bytes]]:
    """The complete lines that each read of standard input brings, so that a slow pipe is not held up."""
    rest = b""
    async for part in _stdin_parts():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > LINE_BYTES_MAX or any(len(line) > LINE_BYTES_MAX for line in lines):
            raise ClientError(f"a line of standard input is longer than {LINE_BYTES_MAX} bytes")
        if lines:
            yield lines
    if rest:
        yield [rest]


async def _stdin_parts() -> AsyncIterator[bytes]:
    """Reads without blocking the loop, so that Ctrl-C works while nothing comes."""
    import os

    loop = asyncio.get_running_loop()
    number = sys.stdin.fileno()
    readable = asyncio.Event()
    try:
        loop.add_reader(number, readable.set)
    except PermissionError:
        # A regular file: the poller does not take it, and reading it never blocks.
        while part := os.read(number, READ_BYTES):
            yield part
        return
    try:
        while True:
            await readable.wait()
            readable.clear()
            part = os.read(number, READ_BYTES)
            if not part:
                return
            yield part
    finally:
        loop.remove_reader(number)
