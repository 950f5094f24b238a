"""Each change of state is one JSON line that says whose it is: broker, shard and epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penstock.testing.process import BrokerProcess
from penstock.testing.shard_processes import ShardProcesses

# The log's own files are more than a tenth of this, which is what is warned of.
CONFIG = {"log.disk.bytes": 128 << 20, "log.disk.warn.ratio": 0.1, "log.segment.bytes": 32 << 20}
STATES = (
    "leading the shard",
    "no longer leading",
    "following member",
    "no leader is known",
    "the shard's members",
    "in sync",
    "member ",
    "disk state changed",
)


class _JsonBroker(BrokerProcess):
    def _command(self) -> list[str]:
        return [*super()._command(), "--log-format", "json"]


class _JsonShard(ShardProcesses):
    def _make_broker(self, folder: Path, **options: Any) -> BrokerProcess:
        return _JsonBroker(folder, **options)


def lines_of(folder: Path, ordinal: int) -> list[dict[str, Any]]:
    """Whole lines; the process's starter notes its command between them."""
    lines = (folder / f"broker-{ordinal}" / "broker.log").read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines if not line.startswith("--- ")]


def said(lines: list[dict[str, Any]], beginning: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"].startswith(beginning)]


def test_state_changes_are_lines_with_shard_and_epoch(tmp_path: Path) -> None:
    with _JsonShard(tmp_path, config=CONFIG) as shard:
        first = shard.leader()

        def wait_in_sync(count: int) -> None:
            shard.wait_until(
                lambda: said(lines_of(tmp_path, first), "in sync: ")[-1]["in_sync"] == count,
                f"line that says that {count} are in sync",
            )

        wait_in_sync(3)
        gone, second = shard.followers()
        shard.kill(gone)
        wait_in_sync(2)
        shard.brokers[gone].launch_only()
        wait_in_sync(3)
        shard.wait_whole()
        shard.hand_over(second)
        shard.kill(second)
        third = shard.leader(other_than=second)
        shard.wait_until(lambda: bool(said(lines_of(tmp_path, third), "disk state")), "look at the disk")
    names = [shard.name(ordinal) for ordinal in range(3)]
    everybody = [lines_of(tmp_path, ordinal) for ordinal in range(3)]
    for name, lines in zip(names, everybody, strict=True):
        assert said(lines, "the shard's members: ")[-1]["voters"] == 3
        for beginning in STATES:
            for line in said(lines, beginning):
                assert (line["cluster"], line["broker"], line["shard"]) == ("test", name, 0), line
                assert line["epoch"] > 0, line
        for line in said(lines, "leading the shard in epoch "):
            assert line["message"] == f"leading the shard in epoch {line['epoch']}"
    in_sync = said(everybody[first], "in sync: ")
    assert f"in sync: {', '.join(names)}" in [line["message"] for line in in_sync]
    assert said(everybody[first], "no longer leading the shard")
    assert said(everybody[first], "following member")
    assert said(everybody[third], "no leader is known, epoch ")
    assert said(everybody[third], "disk state changed from ok to warn")[-1]["level"] == "WARNING"
