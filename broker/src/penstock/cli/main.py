"""The `penstock` command."""

from __future__ import annotations

import click

from penstock import __version__
from penstock.cli.broker import broker_command


@click.group()
@click.version_option(__version__, prog_name="penstock")
def cli() -> None:
    """Penstock: a message broker for Kubernetes, and for your laptop."""


cli.add_command(broker_command)
