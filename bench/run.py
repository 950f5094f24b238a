"""Measures Penstock beside Apache Kafka and writes a Markdown report: `python -m bench.run [--quick] [--report FILE]`.

Rounds alternate, and so does who goes first, so that a machine that gets warm or busy treats both alike. Everything
runs on loopback; a machine with other work on it measures that work too, so the load it has is in the report.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench.disk import sync_cost
from bench.drive import BROKER_CORE, LOAD_CORE, run_durability
from bench.locks import held
from bench.machine import business, machine
from bench.plan import DURABILITIES, FULL, PEERS, QUICK
from bench.report import Results, shortfalls, write_report
from penstock.testing.apache_kafka import KafkaMissingError, kafka_jars

CORES_MIN = 2
FREE_BYTES_MIN = 8 << 30
BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"


def main() -> int:
    """Runs the rounds; 0 when no figure is behind, 1 when one is, 2 when it cannot run."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that no broker is left behind.
    refusal = _refusal(options.folder)
    if refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        return 2
    effort = (QUICK if options.quick else FULL)._replace(
        **({"rounds": options.rounds} if options.rounds else {})
    )
    words = _machine(locked=bool(options.lock))
    started = time.monotonic()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=options.folder) as folder:
        with held(options.lock):
            cost = sync_cost(Path(folder))
        _say(f"fdatasync p50 {cost.p50_ms:.2f} ms, p99 {cost.p99_ms:.2f} ms")
        for number in range(effort.rounds):
            for durability in DURABILITIES:
                for peer in PEERS if number % 2 == 0 else PEERS[::-1]:
                    home = Path(folder) / f"{peer}-{durability.name}-{number}"
                    with held(options.lock):
                        results.add(peer, *run_durability(peer, durability, effort, home, _say))
    report = write_report(results, effort, cost, words)
    if options.report:
        options.report.write_text(placed(report, options.report))
        _say(f"written to {options.report}")
    print(report)
    behind = shortfalls(results)
    _say(f"{time.monotonic() - started:.0f} s; figures behind Kafka: {len(behind)}")
    for words in behind:
        print(f"behind: {words}")
    return 1 if behind else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one short round: a check that it runs, not a figure"
    )
    parser.add_argument("--rounds", type=int, help="alternated rounds (default: 3, quick 1)")
    parser.add_argument(
        "--report",
        type=Path,
        help="write the report to this file as well, between its marks where it has them",
    )
    parser.add_argument(
        "--folder", type=Path, help="where both brokers keep data (default: the temporary folder)"
    )
    parser.add_argument(
        "--lock",
        type=Path,
        action="append",
        default=[],
        help="hold this lock file (flock) while one broker is measured, a few minutes, so that a shared machine can do"
        " other work between; may be given several times, taken in that order",
    )
    return parser.parse_args()


def _refusal(folder: Path | None) -> str | None:
    """Why it cannot run here; None when it can."""
    if len(os.sched_getaffinity(0)) < CORES_MIN or not {BROKER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        return "two cores are needed, one for the broker and one for the load"
    if shutil.which("taskset") is None:
        return "taskset is missing: install util-linux"
    if shutil.disk_usage(folder or tempfile.gettempdir()).free < FREE_BYTES_MIN:
        return f"{FREE_BYTES_MIN >> 30} GiB of free disk are needed: choose another place with --folder"
    try:
        kafka_jars()
    except KafkaMissingError as error:
        return str(error)
    return None


def _machine(*, locked: bool) -> str:
    words = business()
    if locked:
        words = (
            f"{words.partition(' (')[0]} (shared with other work, which waited while a broker was measured)"
        )
    return f"{machine()}; broker on core {BROKER_CORE}, load generator on core {LOAD_CORE}; {words}."


def placed(report: str, file: Path, begin_mark: str = BEGIN, end_mark: str = END) -> str:
    """The report between the marks of a file that has them, so that the words around it stay; alone otherwise."""
    if not file.exists():
        return report
    before, begin, rest = file.read_text().partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    return f"{before}{begin}\n{report}\n{end}{after}" if begin and end else report


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
