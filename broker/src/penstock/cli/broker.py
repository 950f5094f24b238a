"""`penstock broker`: one broker in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("broker")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder that keeps the broker's log and identity; made when it is missing.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), default=None,
              help="YAML file of settings, such as `log.retention.ms: 86400000`; `penstock config list` shows all.")
@click.option("--listen", multiple=True, metavar="NAME=HOST:PORT",
              help="Where to listen: kafka=…, http=…, admin=…, or a listener of the file. Port 0 picks a free one."
                   " Given none, 127.0.0.1 with kafka 9092, http 8080, admin 8081.")
@click.option("--advertise", multiple=True, metavar="NAME=HOST:PORT",
              help="The address that clients of a Kafka listener are told, where it differs from what it listens on.")
@click.option("--ready-file", type=click.Path(dir_okay=False, path_type=Path), default=None,
              help="A JSON file to write once clients are served: process id and the listeners' addresses.")
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True,
              help="Form of the log lines on stderr.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
              show_default=True, help="The least important lines to log.")  # fmt: skip
def broker_command(
    data: Path,
    config_file: Path | None,
    listen: tuple[str, ...],
    advertise: tuple[str, ...],
    ready_file: Path | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run one broker until Ctrl-C or SIGTERM.

    \b
    Example:
      penstock broker --data ./data
    """
    # The broker's parts are imported only here, so that every other command starts fast.
    from penstock.config.broker_config import ConfigError, load_config
    from penstock.process.run import EXIT_USAGE, run_broker
    from penstock.telemetry.logs import configure_logging

    configure_logging("json" if log_format == "json" else "console", log_level)
    try:
        config = load_config(
            data, config_file=config_file, listen=listen, advertise=advertise, ready_file=ready_file
        )
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    sys.exit(run_broker(config))
