"""`penstock lease`, `ack`, `reject`, `release` and `extend`: the messages of a queue group, one command for each step."""

from __future__ import annotations

from typing import Any, Final

import click
import msgspec

from penstock.cli.common import data_server_option, json_option, run_async
from penstock.cli.output import printable, show_json
from penstock.cli.times import duration_ms
from penstock.client.http import HttpClient, decode, path
from penstock.listeners.http.models import ContentOut
from penstock.listeners.http.queue_models import LeasedMessage, LeaseReply, ReceiptsReply

EXIT_REFUSED: Final = 1


class Duration(click.ParamType[int]):
    """A duration such as 30s or 5m, as milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails with a sentence."""
        if isinstance(value, int):
            return value
        found = duration_ms(str(value))
        if found is None:
            self.fail(f"{value!r} is not written like 500ms, 30s, 15m or 2h.", param, ctx)
        return found


DURATION: Final = Duration()


@click.command()
@click.argument("group")
@click.option(
    "--max", "most", type=click.IntRange(1, 1000), default=1, show_default=True, help="Messages at most."
)
@click.option(
    "--wait",
    type=DURATION,
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for one.",
)
@click.option(
    "--for",
    "lease",
    type=DURATION,
    metavar="DURATION",
    help="How long they are yours; as the group is declared when left out.",
)
@click.option("--member", default="", metavar="NAME", help="Who takes them, a name for people.")
@data_server_option
@json_option
def lease(
    group: str, most: int, wait: int, lease: int | None, member: str, server: str, as_json: bool
) -> None:
    """Take messages of the queue group GROUP: nobody else gets them until the lease ends.

    Each is printed with its receipt, which `penstock ack` and `penstock reject` take.

    \b
    Examples:
      penstock lease billing
      penstock lease billing --max 10 --wait 20s --for 5m --json
    """
    body: dict[str, Any] = {"max": most, "waitMs": wait, "member": member}
    if lease is not None:
        body["leaseMs"] = lease
    answer = run_async(_post(server, group, "lease", body, wait / 1000))
    if as_json:
        show_json(answer)
        return
    leased = decode(answer, LeaseReply)
    for message in leased.messages:
        click.echo(_line(message))
    if not leased.messages:
        why = (
            "as many messages are in flight as the group allows"
            if leased.window_full
            else "there is nothing to do now"
        )
        click.echo(f"{group}: {why}", err=True)


async def _post(server: str, group: str, what: str, body: object, wait_seconds: float = 0) -> bytes:
    async with HttpClient(server) as client:
        return await client.request("POST", path("groups", group, what), body=body, wait_seconds=wait_seconds)


def _line(message: LeasedMessage) -> str:
    place = f"{message.topic}/{message.partition}/{message.offset} delivery {message.deliveries}"
    return f"{message.receipt}  {place}\t{_text(message.value)}"


def _text(content: str | ContentOut | None) -> str:
    if content is None:
        return "(null)"
    if isinstance(content, str):
        return printable(content)
    return printable(msgspec.json.encode(content).decode())


@click.command()
@click.argument("group")
@click.argument("receipts", nargs=-1, required=True, metavar="RECEIPT...")
@data_server_option
@json_option
def ack(group: str, receipts: tuple[str, ...], server: str, as_json: bool) -> None:
    """Say that leased messages of GROUP are done: the group never gets them again.

    \b
    Example:
      penstock ack billing AQAAAAEAAAAAAAAAAAD3…
    """
    _settle(server, group, "acknowledge", {"receipts": list(receipts)}, "acknowledged", as_json)


@click.command()
@click.argument("group")
@click.argument("receipts", nargs=-1, required=True, metavar="RECEIPT...")
@click.option("--no-retry", is_flag=True, help="Give up: the dead-letter topic gets them.")
@click.option(
    "--delay", type=DURATION, metavar="DURATION", help="When to try again, instead of the group's back-off."
)
@data_server_option
@json_option
def reject(
    group: str, receipts: tuple[str, ...], no_retry: bool, delay: int | None, server: str, as_json: bool
) -> None:
    """Say that leased messages of GROUP failed: they are tried again later, or given up.

    \b
    Examples:
      penstock reject billing AQAAAAEAAAAAAAAAAAD3… --delay 5m
      penstock reject billing AQAAAAEAAAAAAAAAAAD3… --no-retry
    """
    body: dict[str, Any] = {"receipts": list(receipts), "retry": not no_retry}
    if delay is not None:
        body["delayMs"] = delay
    _settle(server, group, "reject", body, "rejected", as_json)


@click.command()
@click.argument("group")
@click.argument("receipts", nargs=-1, required=True, metavar="RECEIPT...")
@data_server_option
@json_option
def release(group: str, receipts: tuple[str, ...], server: str, as_json: bool) -> None:
    """Give leased messages of GROUP back untried: others may have them at once.

    \b
    Example:
      penstock release billing AQAAAAEAAAAAAAAAAAD3…
    """
    _settle(server, group, "release", {"receipts": list(receipts)}, "released", as_json)


@click.command()
@click.argument("group")
@click.argument("receipts", nargs=-1, required=True, metavar="RECEIPT...")
@click.option(
    "--for", "lease", type=DURATION, required=True, metavar="DURATION", help="How long, from now on."
)
@data_server_option
@json_option
def extend(group: str, receipts: tuple[str, ...], lease: int, server: str, as_json: bool) -> None:
    """Hold leased messages of GROUP for longer.

    \b
    Example:
      penstock extend billing AQAAAAEAAAAAAAAAAAD3… --for 10m
    """
    body = {"receipts": list(receipts), "leaseMs": lease}
    _settle(server, group, "extend", body, "extended", as_json)


def _settle(server: str, group: str, what: str, body: object, done: str, as_json: bool) -> None:
    """Exit code 1 when a receipt was refused."""
    answer = run_async(_post(server, group, what, body))
    results = decode(answer, ReceiptsReply).results
    refused = [each for each in results if each.error is not msgspec.UNSET]
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{len(results) - len(refused)} of {len(results)} {done}")
        for each in refused:
            assert not isinstance(each.error, msgspec.UnsetType)
            click.echo(f"{printable(each.receipt)}: {each.error.detail}", err=True)
    if refused:
        raise click.exceptions.Exit(EXIT_REFUSED)
