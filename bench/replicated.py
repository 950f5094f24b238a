"""Three replicas beside three: `python -m bench.replicated [--rounds N] [--quick] [--report FILE]`.

Penstock with `mode: Raft, replicas: 3` and Apache Kafka with three nodes and replication factor 3 take the same load from the
same Java tool at acks=all, in turn. All brokers share one core, the load generator has the other.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

from bench.drive import BROKER_CORE, create_topic, pinned, produce
from bench.kafka_trio import NODES, KafkaTrio
from bench.plan import DURABILITIES, PEERS, Cell, Durability, cells
from bench.run import placed
from penstock.testing.shard_processes import ShardProcesses

BYTES_TOTAL = 120_000_000
BYTES_WARM = 60_000_000
# Of the bytes of `async`, as many are enough where each costs a sync.
SYNCED_SHARE = 0.1
BEGIN = "<!-- replicated: begin -->"
END = "<!-- replicated: end -->"


class Figures(NamedTuple):
    """One cell of one round."""

    records_per_second: float
    cpu_s_per_million: float
    resident_mib: float


class PenstockTrio:
    """Three Penstock brokers with the same face as `KafkaTrio`."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        config = {"min.insync.replicas": 2, **durability.penstock_config}
        self._shard = ShardProcesses(folder, replicas=NODES, config=config, prefix=pinned(BROKER_CORE))

    def __enter__(self) -> Self:
        self._shard.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._shard.close()

    @property
    def kafka(self) -> str:
        """Bootstrap addresses of all brokers."""
        return self._shard.kafka

    def cpu_seconds(self) -> float:
        """What all brokers have used."""
        return sum(broker.usage().cpu_s for broker in self._shard.brokers)

    def resident_bytes(self) -> int:
        """What all brokers hold in memory."""
        return sum(broker.usage().resident_bytes for broker in self._shard.brokers)


def main() -> int:
    """Runs the rounds; 0 when no cell is behind, 1 when one is."""
    options = _options()
    results: dict[tuple[str, Cell], list[Figures]] = {}
    rounds, share = (1, 0.2) if options.quick else (options.rounds, 1.0)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=options.folder) as folder:
        for number in range(rounds):
            for durability in DURABILITIES:
                for peer in PEERS if number % 2 == 0 else PEERS[::-1]:
                    home = Path(folder) / f"{peer}-{durability.name}-{number}"
                    for cell, figures in _life(peer, durability, home, share).items():
                        results.setdefault((peer, cell), []).append(figures)
    report = write_report(results, rounds)
    if options.report:
        options.report.write_text(placed(report, options.report, BEGIN, END))
    print(report)
    return 1 if any(_lead(results, cell) < 1.0 for _, cell in results) else 0


def _life(peer: str, durability: Durability, folder: Path, share: float) -> dict[Cell, Figures]:
    """All cells of one durability on three brokers that are made for it and removed with their data."""
    trio: PenstockTrio | KafkaTrio
    topic_config = durability.kafka_topic_config if peer == "kafka" else {}
    if peer == "kafka":
        trio = KafkaTrio(folder, prefix=pinned(BROKER_CORE))
    else:
        trio = PenstockTrio(folder, durability)
    share *= SYNCED_SHARE if durability.name == "sync" else 1.0
    measured = {}
    try:
        with trio:
            for number, cell in enumerate(cells(durability.name)):
                topic, size = f"cell-{number}", cell.record_size
                create_topic(trio.kafka, topic, cell.partitions, topic_config, replicas=NODES)
                records, warm = int(BYTES_TOTAL * share) // size, int(BYTES_WARM * share) // size
                before = trio.cpu_seconds()
                produced = produce(trio.kafka, topic, records + warm, size, warm=warm)
                cpu = (trio.cpu_seconds() - before) / (records + warm) * 1e6
                measured[cell] = Figures(produced.records_per_second, cpu, trio.resident_bytes() / (1 << 20))
                words = f"{peer} x3 {durability.name}, {cell.words}"
                print(f"bench: {words}: {produced.records_per_second:,.0f}/s", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return measured


def write_report(results: dict[tuple[str, Cell], list[Figures]], rounds: int) -> str:
    """Markdown: medians and ratios, above 1.0 is Penstock's lead."""
    lines = [
        f"{rounds} alternated round{'s' if rounds > 1 else ''}, medians; ratios above 1.0 are Penstock's lead.\n"
    ]
    for durability in DURABILITIES:
        lines.append(f"#### {durability.words}, three replicas\n")
        lines.append(
            "| Produce at full speed, acks=all | records/s: Penstock | Kafka | ratio | CPU s per million, all three:"
            " Penstock | Kafka | ratio | resident MiB, all three: Penstock | Kafka | ratio |"
        )
        lines.append("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
        for cell in cells(durability.name):
            ours, theirs = (_median(results[peer, cell]) for peer in PEERS)
            cpu = theirs.cpu_s_per_million / ours.cpu_s_per_million
            memory = theirs.resident_mib / ours.resident_mib
            lines.append(
                f"| {cell.words} | {ours.records_per_second:,.0f} | {theirs.records_per_second:,.0f} |"
                f" **{_lead(results, cell):.2f}** | {ours.cpu_s_per_million:.2f} | {theirs.cpu_s_per_million:.2f} |"
                f" **{cpu:.2f}** | {ours.resident_mib:,.0f} | {theirs.resident_mib:,.0f} | **{memory:.2f}** |"
            )
        lines.append("")
    return "\n".join(lines)


def _median(figures: list[Figures]) -> Figures:
    return Figures(*(statistics.median(column) for column in zip(*figures, strict=True)))


def _lead(results: dict[tuple[str, Cell], list[Figures]], cell: Cell) -> float:
    ours, theirs = (_median(results[peer, cell]) for peer in PEERS)
    return ours.records_per_second / theirs.records_per_second


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.replicated",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="alternated rounds (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one short round: a check that it runs, not a figure"
    )
    parser.add_argument("--report", type=Path, help="write the tables into this file, between its marks")
    parser.add_argument(
        "--folder", type=Path, help="where the brokers keep data (default: the temporary folder)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
