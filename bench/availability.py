"""What it costs when brokers go away: `python -m bench.availability [--mode M] [--cause C] [--runs N] [--report FILE]`.

Every cause befalls one, two and all brokers of a shard under a continuous producer and consumer; see docs/availability.md
for what is counted how. `--quick` is a run of each with little load: a check that nothing is lost, not a figure.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

from bench.availability_table import Row, write_table
from bench.machine import business, machine
from bench.run import placed
from penstock.testing.availability.load import LoadError
from penstock.testing.availability.matrix import Cause, Cell, Ending, Target, cells
from penstock.testing.availability.modes import MODES, Mode
from penstock.testing.availability.trial import Effort, run_trial
from penstock.testing.managed_process import ServerError
from penstock.testing.shard_processes import ShardProcesses

# So that the whole matrix takes a quarter of an hour. What happens most often is looked at more closely: the leader alone
# crashes, or is stopped.
RUNS = 1
RUNS_OFTEN = 5
OFTEN = (Cause.CRASH, Cause.STOP)
SEED = 1
QUICK = Effort(ordinary=500, flow=200)
BEGIN = "<!-- availability {}: begin -->"
END = "<!-- availability {}: end -->"


def main() -> int:
    """Runs; 0 when all went as it has to, 1 when a run has a sentence of what did not."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that no broker is left behind.
    words = f"{machine()}; {business()}"
    wrong: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-availability-", dir=options.folder) as folder:
        for name in options.mode or MODES:
            wrong += _run_mode(MODES[name], Path(folder), words, options)
    _say(f"{time.monotonic() - began:.0f} s; runs with something wrong: {len(wrong)}")
    return 1 if wrong else 0


def _run_mode(mode: Mode, folder: Path, words: str, options: argparse.Namespace) -> list[str]:
    """The mode's table, printed and written where it is asked for; a sentence for all that was wrong."""
    causes = [Cause[word.upper()] for word in options.cause] or list(Cause)
    effort = (QUICK if options.quick else Effort())._replace(absence=mode.absence)
    brokers = options.brokers or mode.brokers
    began = time.monotonic()
    rows = []
    for cell in cells(brokers, mode.keepers(brokers), causes):
        if options.only and f"{cell.cause.word} {cell.words}" not in options.only:
            continue
        runs = options.runs or (1 if options.quick else _runs(cell))
        chances = _chances(options.seed, mode, cell, runs)
        rows.append(_run_cell(mode, cell, folder / f"{mode.name}-{len(rows)}", effort, chances))
    minutes = (time.monotonic() - began) / 60
    report = write_table(rows, f"{words}. It took {minutes:.0f} minutes", effort)
    if options.report:
        begin, end = BEGIN.format(mode.name), END.format(mode.name)
        options.report.write_text(placed(report, options.report, begin, end))
        _say(f"written to {options.report}")
    print(report)
    return [sentence for row in rows for sentence in row.wrong]


def _runs(cell: Cell) -> int:
    leader_alone = cell.hit == 1 and cell.target is Target.LEADER
    return RUNS_OFTEN if leader_alone and cell.cause in OFTEN else RUNS


def _chances(seed: int, mode: Mode, cell: Cell, runs: int) -> list[Random]:
    """One for each run, so that a cell draws the same whichever others are run."""
    return [Random(f"{seed} {mode.name} {cell.cause.word} {cell.words} {number}") for number in range(runs)]


def _run_cell(mode: Mode, cell: Cell, home: Path, effort: Effort, chances: list[Random]) -> Row:
    """All runs of a cell on one shard; where it does not survive a run, the next one gets another."""
    row = Row(mode.name, cell, [], [])
    shard: ShardProcesses | None = None
    with ExitStack() as shards:
        for number, random in enumerate(chances):
            try:
                if shard is None:
                    shard = shards.enter_context(mode.make(home / str(number), cell.brokers))
                outcome = run_trial(shard, mode, cell, f"load-{number}", random, effort)
            except (ServerError, LoadError) as error:
                row.failures.append(str(error))
                shards.close()
                shard = None
                _say(f"{mode.name} run {number + 1}: {cell.cause.word} {cell.words}: {error}")
                continue
            row.outcomes.append(outcome)
            _say(f"{mode.name} run {number + 1}: {outcome.line()}")
            for sentence in outcome.account.wrong:
                _say(f"  wrong: {sentence}")
            if mode.ending(cell) is Ending.REFUSES:
                shards.close()
                shard = None
    return row


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.availability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    causes = [cause.word for cause in Cause]
    parser.add_argument(
        "--mode",
        action="append",
        choices=list(MODES),
        help="may be given several times (default: all of them)",
    )
    parser.add_argument("--brokers", type=int, help="how many brokers (default: the mode's)")
    parser.add_argument(
        "--cause",
        action="append",
        default=[],
        choices=causes,
        help="may be given several times (default: all)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CELL",
        help="such as 'crash 1 of 3' or 'wipe 1 of 3 (a follower)'; may be given several times",
    )
    parser.add_argument(
        "--runs",
        type=int,
        help=f"of each cell (default: {RUNS}; {RUNS_OFTEN} where the leader alone crashes or is stopped; quick 1)",
    )
    parser.add_argument("--quick", action="store_true", help="little load: a check, not a figure")
    parser.add_argument("--seed", type=int, default=SEED, help="draws which followers are hit")
    parser.add_argument("--report", type=Path, help="write the table into this file, between its marks")
    parser.add_argument("--folder", type=Path, help="where brokers keep data (default: the temporary folder)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
