"""`penstock up`: the command."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from penstock_operator.local.files import Loaded
    from penstock_operator.local.view import LiveView, PlainView

EXIT_BAD_FILES: Final = 2
DATA_DEFAULT: Final = "penstock-data"


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DEFAULT,
    show_default=True,
    metavar="DIR",
    help="Folder for the brokers' data; what is there is used again.",
)
@click.option(
    "--status-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Keep a JSON file with addresses and process ids here, for scripts.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the same JSON here once every resource is ready.",
)
@click.option("--plain", is_flag=True, help="Lines instead of a live table, also on a terminal.")
@click.option("--check", is_flag=True, help="Only check the files.")
def up(
    files: tuple[Path, ...],
    data: Path,
    status_file: Path | None,
    ready_file: Path | None,
    plain: bool,
    check: bool,
) -> None:
    """Run clusters, topics and groups described in YAML files as local processes.

    The files are the same that `kubectl apply` takes. Brokers listen on 127.0.0.1: the first one at the ports of the
    files (9092, 8080 and, for the admin API, 8081 unless they say otherwise), each further one ten ports above the one
    before (9102, 8090, 8091), or at free ones where these are taken. A broker that dies is started again; edits of the
    files are followed. Ctrl-C stops everything, the leader last, and keeps the data.

    \b
    Example:
      penstock up examples/quickstart.yaml

    Exit codes: 0 stopped, 2 a file cannot be used.
    """
    from penstock_operator.local.files import load_files

    loaded = load_files(list(files))
    for problem in loaded.problems:
        click.echo(problem, err=True)
    if loaded.problems:
        sys.exit(EXIT_BAD_FILES)
    if check:
        click.echo(f"{len(loaded.resources)} resources are fine")
        return
    from penstock_operator.local.view import LiveView, PlainView

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    view = PlainView() if plain or not sys.stdout.isatty() else LiveView()
    asyncio.run(_run(list(files), data.resolve(), loaded, view, status_file, ready_file))


async def _run(
    files: list[Path],
    data: Path,
    loaded: Loaded,
    view: PlainView | LiveView,
    status_file: Path | None,
    ready_file: Path | None,
) -> None:
    from penstock_operator.local.runtime import LocalRuntime

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    runtime = LocalRuntime(files, data, view.say, status_file, ready_file)
    shown = asyncio.create_task(view.run(runtime), name="view")
    try:
        await runtime.run(loaded, stop)
    finally:
        shown.cancel()
        await asyncio.wait([shown])
    click.echo(f"stopped; the data stays in {data}")
