"""`penstock broker` runs a broker in this process; `penstock broker-config` lists what can be configured."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from penstock.cli.common import json_option
from penstock.cli.output import show_json, show_table


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder that holds this broker's log; made when it is missing.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A YAML file of settings; `penstock broker-config` lists them.",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="Where to listen; may be repeated. The names kafka, http and admin are listeners of that protocol, others are "
    "declared in the configuration file. Port 0 picks a free one.",
)
@click.option(
    "--advertise",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="The address that clients of a Kafka listener are told; may be repeated.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write a JSON file with process id and addresses here once clients may come.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="Log lines for people or for machines.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least important log lines that are written.",
)
def broker(
    data: Path,
    config_file: Path | None,
    listen: tuple[str, ...],
    advertise: tuple[str, ...],
    ready_file: Path | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run a broker until it is told to stop (Ctrl-C or SIGTERM).

    Started with nothing but --data it listens on 127.0.0.1: Kafka clients on 9092, data API on 8080, admin API on
    8081. Given some --listen, on those alone.

    \b
    Example:
      penstock broker --data /tmp/penstock
      penstock broker --data /tmp/penstock --listen kafka=0.0.0.0:9092 --advertise kafka=myhost:9092

    Exit codes: 0 stopped, 1 an address or a file cannot be had, 2 wrong usage or configuration, 3 the data folder cannot be
    used (another broker runs on it, it is of a newer release, or its shard went on without it), 4 the data is damaged, 5 the
    storage failed or held a wrong state, 6 it is master no more (mode MasterSlave): start it again at once, it will follow.
    """
    from penstock.config.broker_config import ConfigError, load_config
    from penstock.telemetry.logs import configure_logging

    configure_logging("json" if log_format == "json" else "console", log_level)
    try:
        configuration = load_config(
            data, config_file=config_file, listen=listen, advertise=advertise, ready_file=ready_file
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    from penstock.process.run import run_broker

    click.get_current_context().exit(run_broker(configuration))


@click.command(name="broker-config")
@json_option
def broker_config(as_json: bool) -> None:
    """List every setting of a broker with its default.

    Settings go into the file that `penstock broker --config FILE` reads. The dynamic ones can also be changed while the
    broker runs: `penstock config set`.

    \b
    Example:
      penstock broker-config
    """
    from penstock.config.broker_options import BROKER_OPTIONS

    options = BROKER_OPTIONS.options.values()
    if as_json:
        rows = [
            {
                "name": option.name,
                "type": option.type,
                "default": option.default,
                "dynamic": option.dynamic,
                "doc": option.doc,
            }
            for option in options
        ]
        show_json(msgspec.json.encode({"config": rows}))
        return
    show_table(
        ["NAME", "TYPE", "DEFAULT", "DYNAMIC", "MEANING"],
        [
            [
                option.name,
                option.type,
                option.show(option.default) or "-",
                "yes" if option.dynamic else "no",
                option.doc,
            ]
            for option in options
        ],
    )
