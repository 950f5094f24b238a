"""What the commands share: where the servers are, how errors become one sentence, how positions are written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final, TypeVar

import click

from penstock.client.http import ClientError, UnreachableError, decode, server_url

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DATA_SERVER: Final = "http://127.0.0.1:8080"
ADMIN_SERVER: Final = "http://127.0.0.1:8081"


def _check_server(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return server_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def data_server_option(command: F) -> F:
    """`--server`: the data API."""
    return click.option(
        "--server",
        default=DATA_SERVER,
        envvar="PENSTOCK_SERVER",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        callback=_check_server,
        help="The broker's data API.",
    )(command)


def admin_server_option(command: F) -> F:
    """`--admin`: the admin API."""
    return click.option(
        "--admin",
        default=ADMIN_SERVER,
        envvar="PENSTOCK_ADMIN",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        callback=_check_server,
        help="The broker's admin API.",
    )(command)


def json_option(command: F) -> F:
    """`--json`: what the server answered, for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's work; what goes wrong becomes one sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except UnreachableError as error:
        raise click.ClickException(
            f"{error}. Start a broker with `penstock broker --data DIR`, or say where it is with --server "
            "(PENSTOCK_SERVER) or --admin (PENSTOCK_ADMIN)."
        ) from error
    except ClientError as error:
        raise click.ClickException(str(error)) from error


def decoded(answer: bytes, kind: type[T]) -> T:
    """The server's answer as a value, or one sentence and exit code 1."""
    try:
        return decode(answer, kind)
    except ClientError as error:
        raise click.ClickException(str(error)) from error


def position(option: str, text: str) -> dict[str, str | int]:
    """A position as the admin API takes it, from earliest, latest, an offset or a time."""
    if text in ("earliest", "latest"):
        return {"at": text}
    if text.isdecimal():
        return {"offset": int(text)}
    return {"timestamp": rfc3339(option, text)}


def rfc3339(option: str, text: str) -> str:
    """A time with its zone, or a usage error."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(
            f"{option} is {text!r}; it is earliest, latest, an offset, or a time like 2026-11-21T08:00:00Z."
        ) from error
    if moment.tzinfo is None:
        raise click.UsageError(f"{option} is {text!r}, a time without a zone; end it with Z for UTC.")
    return moment.isoformat()


def settings(option: str, pairs: tuple[str, ...]) -> dict[str, str | None]:
    """Settings written as NAME=VALUE."""
    values: dict[str, str | None] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {pair!r} is not written as NAME=VALUE.")
        values[name] = value
    return values
