"""The `penstock` command: its commands are loaded when they are used, so that each starts as fast as it can.

Commands of this package are named here and imported by `_own`. Other packages add commands through the entry points of
group `penstock.commands` (`up` comes from the operator package that way); `--help` names them without importing them,
and one whose packages are not installed says which extra it needs.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

import click

from penstock import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Final[Mapping[str, str]] = {
    "broker": "Run a broker until it is told to stop (Ctrl-C or SIGTERM).",
    "broker-config": "List every setting of a broker with its default.",
    "produce": "Write MESSAGES to TOPIC, or each line of standard input when there are none.",
    "consume": "Print the messages of TOPIC, oldest first, one per line.",
    "lease": "Take messages of the queue group GROUP: nobody else gets them until the lease ends.",
    "ack": "Say that leased messages of GROUP are done: the group never gets them again.",
    "reject": "Say that leased messages of GROUP failed: they are tried again later, or given up.",
    "release": "Give leased messages of GROUP back untried: others may have them at once.",
    "extend": "Hold leased messages of GROUP for longer.",
    "message": "Look at one message, or find those of a key.",
    "trace": "Show the way of one message: produced, received, stored, committed, delivered, and who has read it.",
    "topic": "List, create, describe, alter and delete topics.",
    "group": "List, describe, declare, reset and delete consumer groups.",
    "config": "Show and change the settings of a running broker.",
    "cluster": "Show the cluster's shards and members, and the state of the broker that answers.",
}
"""Name to what `--help` says about it without importing it; a test compares the two."""

PLUGIN_GROUP: Final = "penstock.commands"
PLUGIN_HELP: Final = {"up": "Run clusters described in YAML files as local processes."}
PLUGIN_EXTRAS: Final = {"up": "operator"}

EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 1


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, or when their own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own commands in their order, then those of other packages."""
        return [*COMMANDS, *(name for name in _plugins() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported; None when there is none of that name."""
        if cmd_name in COMMANDS:
            return _own(cmd_name)
        plugin = _plugins().get(cmd_name)
        return None if plugin is None else _load(plugin)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands; those of other packages by name only."""
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            if name in COMMANDS:
                rows.append((name, COMMANDS[name]))
            else:
                rows.append((name, PLUGIN_HELP.get(name, f"A command of {_plugins()[name].module}.")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _own(name: str) -> click.Command:
    """Imports one of COMMANDS."""
    match name:
        case "broker":
            from penstock.cli.broker import broker

            return broker
        case "broker-config":
            from penstock.cli.broker import broker_config

            return broker_config
        case "produce":
            from penstock.cli.produce import produce

            return produce
        case "consume":
            from penstock.cli.consume import consume

            return consume
        case "lease" | "ack" | "reject" | "release" | "extend":
            from penstock.cli import queue

            command: click.Command = getattr(queue, name)
            return command
        case "message":
            from penstock.cli.message import message

            return message
        case "trace":
            from penstock.cli.trace import trace

            return trace
        case "topic":
            from penstock.cli.topic import topic

            return topic
        case "group":
            from penstock.cli.group import group

            return group
        case "config":
            from penstock.cli.config import config

            return config
        case "cluster":
            from penstock.cli.cluster import cluster

            return cluster
    raise KeyError(name)


def _plugins() -> dict[str, EntryPoint]:
    return {plugin.name: plugin for plugin in entry_points(group=PLUGIN_GROUP)}


def _load(plugin: EntryPoint) -> click.Command:
    try:
        command = plugin.load()
    except ImportError as error:
        extra = PLUGIN_EXTRAS.get(plugin.name)
        hint = f"; install penstock[{extra}]" if extra else ""
        raise click.ClickException(
            f"`penstock {plugin.name}` needs packages that are not installed ({error}){hint}."
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"{plugin.value} is not a command; its package is at fault.")
    return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="penstock")
def penstock() -> None:
    """Penstock: a message broker for Kubernetes.

    \b
    Start a broker on this machine, write to it, read from it:
      penstock broker --data /tmp/penstock
      penstock produce greetings "hello, world"
      penstock consume greetings

    Commands that talk to a broker find it at http://127.0.0.1:8080 (data) and http://127.0.0.1:8081 (admin), or where
    PENSTOCK_SERVER and PENSTOCK_ADMIN say.
    """


def main() -> None:
    """Runs the command line and exits: 0 done, 1 failed with a sentence, 2 wrong usage, 130 interrupted."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line and gives the exit code."""
    try:
        code = penstock.main(arguments, prog_name="penstock", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code if isinstance(code, int) else 0
