"""`penstock config`: the settings of a running broker."""

from __future__ import annotations

import click

from penstock.admin.models import ConfigTable
from penstock.cli.common import admin_server_option, decoded, json_option, run_async, settings
from penstock.cli.output import show_json, show_table
from penstock.client.http import HttpClient, path


async def _request(admin: str, method: str, body: object = None) -> bytes:
    async with HttpClient(admin) as client:
        return await client.request(method, path("config"), body=body)


@click.group()
def config() -> None:
    """Show and change the settings of a running broker.

    \b
    Example:
      penstock config set log.retention.ms=86400000
    """


@config.command(name="list")
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@admin_server_option
@json_option
def list_settings(changed: bool, admin: str, as_json: bool) -> None:
    """List all settings with value, source and default. Dynamic ones can be changed while the broker runs.

    \b
    Example:
      penstock config list --changed
    """
    answer = run_async(_request(admin, "GET"))
    if as_json:
        show_json(answer)
        return
    table = decoded(answer, ConfigTable)
    show_table(
        ["NAME", "VALUE", "SOURCE", "DEFAULT", "DYNAMIC"],
        [
            [
                option.name,
                option.value or "-",
                option.source,
                option.default or "-",
                "yes" if option.dynamic else "no",
            ]
            for option in table.config
            if option.source != "default" or not changed
        ],
        empty="Every setting is at its default.",
    )


@config.command(name="set")
@click.argument("changes", nargs=-1, metavar="NAME=VALUE...")
@click.option(
    "--reset", multiple=True, metavar="NAME", help="Fall back to the configuration file; may be repeated."
)
@admin_server_option
@json_option
def set_settings(changes: tuple[str, ...], reset: tuple[str, ...], admin: str, as_json: bool) -> None:
    """Change dynamic settings while the broker runs.

    \b
    Examples:
      penstock config set log.retention.ms=86400000 num.partitions=3
      penstock config set --reset num.partitions
    """
    values = settings("the setting", changes)
    values.update(dict.fromkeys(reset))
    if not values:
        raise click.UsageError("nothing to change; give NAME=VALUE or --reset NAME.")
    answer = run_async(_request(admin, "PATCH", values))
    if as_json:
        show_json(answer)
        return
    table = decoded(answer, ConfigTable)
    show_table(
        ["NAME", "VALUE", "SOURCE"],
        [
            [option.name, option.value or "-", option.source]
            for option in table.config
            if option.name in values
        ],
    )
