"""The bench reads Kafka's tools rightly and says who leads rightly; the fuzzer's frames repeat by their seed."""

from __future__ import annotations

import fcntl
import itertools
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).resolve().parents[3])
)  # bench/ is a folder of the repository, not installed.

from bench.disk import SyncCost
from bench.frames import Frames
from bench.locks import held
from bench.measures import (
    Busy,
    Consumed,
    Measured,
    Produced,
    Start,
    UnreadableError,
    middle,
    read_consumed,
    read_produced,
    spread,
)
from bench.metrics import Effort as MetricsEffort
from bench.metrics import Figures, Loop
from bench.metrics import write_report as metrics_report
from bench.plan import DURABILITIES, PEERS, QUICK, cells
from bench.report import Results, shortfalls, write_report
from bench.seeding import Run
from bench.seeding import write_report as seeding_report
from bench.steady_load import Acknowledged, Latencies, latencies, rank

PRODUCER_SAID = """\
99 records sent, 19.8 records/sec (0.00 MB/sec), 9.0 ms avg latency, 15.0 ms max latency.
550000 records sent, 84112.7 records/sec (8.02 MB/sec), 61.13 ms avg latency, 640.00 ms max latency, 5 ms 50th, 301 ms 95th, 510 ms 99th, 630 ms 99.9th.
400000 steady state records sent, 98765.4 records/sec (9.42 MB/sec), 3.10 ms avg latency, 40.00 ms max latency, 2 ms 50th, 9 ms 95th, 17 ms 99th, 33 ms 99.9th.
"""
RUN_SECONDS_MAX = 110
CONSUMER_SAID = """\
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-11-21 09:00:00:000, 2026-11-21 09:00:05:000, 38.1470, 7.6294, 400000, 80000.0000, 3200, 1800, 21.1928, 222222.2222
"""


def run_bench(name: str, options: str) -> subprocess.CompletedProcess[str]:
    """A short run, which must end within its time."""
    return subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *options.split()],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


def test_the_steady_summary_is_read() -> None:
    assert read_produced(PRODUCER_SAID) == Produced(400_000, 98765.4, 9.42, 2, 17, 33)
    with pytest.raises(UnreadableError, match="no summary"):
        read_produced("org.apache.kafka.common.errors.TimeoutException")


def test_the_consumer_is_read_without_the_time_its_group_took() -> None:
    assert read_consumed(CONSUMER_SAID) == Consumed(400_000, 222222.2222, 21.1928)
    with pytest.raises(UnreadableError, match="no result"):
        read_consumed(CONSUMER_SAID.splitlines()[0])


def test_locks_are_let_go_when_they_do_not_come_together(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def is_free(path: Path) -> bool:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    got = threading.Event()

    def measure() -> None:
        with held([first, second], patience_s=0.0, pause_s=0.001, poll_s=0.0):
            got.set()

    with second.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        thread = threading.Thread(target=measure)
        thread.start()
        deadline = time.monotonic() + 10
        while not is_free(first):  # It is free again and again, although the second never comes.
            assert time.monotonic() < deadline
        assert not got.is_set()
    assert got.wait(10)
    thread.join(10)
    with held([first, second]):
        assert not is_free(first)
        assert not is_free(second)
    assert is_free(first)


def test_middle_and_spread_of_rounds() -> None:
    assert middle([3.0, 100.0, 2.0]) == 3.0
    assert spread([90.0, 100.0, 120.0]) == pytest.approx(0.3)
    assert spread([5.0]) == 0.0


def test_the_report_says_who_leads() -> None:
    results = Results()
    for peer, factor in zip(PEERS, (2.0, 1.0), strict=True):
        for durability in DURABILITIES:
            measured = Measured(
                Produced(1, 1000 * factor, factor, 1, 1, 1),
                Produced(1, 1, 1, 4 / factor, 20 / factor, 40),
                Consumed(1, 500 / factor, 5),
                1.0,
                1.0,
                round((64 << 20) / factor),
                Busy(0.97, 0.2),
                Busy(0.5, 0.1),
            )
            results.add(peer, Start(0.5, 1 << 20), dict.fromkeys(cells(durability.name), measured))
    report = write_report(results, QUICK, SyncCost(1.0, 2.0, 3.0), "a machine")
    assert "| 100 B, 1 partition | 2,000 | 1,000 | **2.00** |" in report
    assert "| 1 KiB, 100 partitions | 2 | 4 | **2.00** | 10 | 20 | **2.00** |" in report
    assert "| 100 B, 1 partition | 97% | 97% | 20% | 20% | 50% | 50% | 10% | 10% |" in report
    assert "fdatasync on this disk: p50 1.00 ms" in report
    behind = shortfalls(results)
    assert len(behind) == 8
    assert behind[0] == "async, 1 KiB, 1 partition: consume records/s 0.50"


def test_frames_repeat_by_their_seed_and_differ_by_it() -> None:
    first, again, other = (
        list(itertools.islice(iter(Frames(seed, templates=100).next, None), 500)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len(set(first)) > 300


def test_latencies_are_of_the_messages_that_were_due_in_that_time() -> None:
    acknowledged = [Acknowledged(due=number / 10, latency_s=number / 1000) for number in range(200)]
    found = latencies(acknowledged, 5.0, 15.0)
    assert found == pytest.approx(Latencies(100, 99.0, 148.0, 149.0))
    with pytest.raises(ValueError, match="no message"):
        latencies(acknowledged, 20.0, 30.0)


def test_a_rank_is_a_value_that_was_measured() -> None:
    assert rank([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert rank([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert rank([7.0], 0.5) == 7.0


def test_the_seeding_report_compares_before_and_meanwhile() -> None:
    runs = [
        Run(Latencies(1000, 4.0, 10.0, 12.0), Latencies(1000, 5.0, p99, 80.0), 1 << 30, seconds)
        for p99, seconds in ((20.0, 10.0), (25.0, 20.0), (40.0, 40.0))
    ]
    assert [run.ratio for run in runs] == [2.0, 2.5, 4.0]
    report = seeding_report(runs, "sync")
    assert "1.00 GiB and was a voter 20.0 s after its start: 54 MB/s" in report
    assert "| p99 ms | 10.0 | 25.0 | **2.50** |" in report


@pytest.mark.clients
@pytest.mark.parametrize("flush", ["sync", "async"])
def test_the_seeding_bench_takes_a_small_follower_in(tmp_path: Path, flush: str) -> None:
    report = tmp_path / "report.md"
    report.write_text("before\n<!-- seeding: begin -->\n<!-- seeding: end -->\nafter\n")
    options = f"--gib 0.01 --runs 1 --baseline 2 --flush {flush} --segment-bytes {1 << 20} --report {report}"
    done = run_bench("seeding", f"{options} --folder {tmp_path}")
    # A machine that does other work may slow it down: that is exit code 1, and no fault of the bench.
    assert done.returncode in (0, 1), done.stderr
    assert f"flush: {flush}" in report.read_text()
    assert report.read_text().startswith("before\n<!-- seeding: begin -->\n")
    assert "| p99 ms |" in done.stdout


def test_the_metrics_bench_says_what_is_too_slow() -> None:
    good = Figures([0.1, 0.2, 0.3], [0.001, 0.002, 0.004], [0.001, 0.002], 0.0123, 2048)
    assert good.is_good
    assert not good._replace(scrapes_s=[0.1, 1.0]).is_good
    assert not good._replace(round_trips_s=[0.001, 0.05]).is_good
    assert not good._replace(stall_s=0.05).is_good
    report = metrics_report(good, MetricsEffort(10_000, 1_000, 3), "a machine")
    assert (
        "10,000 partitions in 1,000 topics, 1,001 groups with 20,000 positions, 3 scrapes of 2 KiB. a machine."
        in report
    )
    assert "| a scrape of `/metrics` | 200.0 | 300.0 | 300.0 | 1000 |" in report
    assert "| the event loop's longest stall, at most | | | 12.3 | 50 |" in report


def test_a_stall_that_is_no_record_is_told_by_its_bucket() -> None:
    before = Loop(0.2, {0.005: 10, 0.05: 11, 0.25: 12, math.inf: 12})
    assert Loop(0.2, {0.005: 20, 0.05: 21, 0.25: 22, math.inf: 22}).longest_since(before) == 0.005
    assert Loop(0.2, {0.005: 20, 0.05: 22, 0.25: 23, math.inf: 23}).longest_since(before) == 0.05
    assert Loop(0.3, {0.005: 20, 0.05: 22, 0.25: 23, math.inf: 24}).longest_since(before) == 0.3


@pytest.mark.clients
def test_the_metrics_bench_scrapes_a_small_broker(tmp_path: Path) -> None:
    done = run_bench("metrics", f"--partitions 100 --groups 10 --scrapes 2 --folder {tmp_path}")
    # A machine that does other work may slow it down: that is exit code 1, and no fault of the bench.
    assert done.returncode in (0, 1), done.stderr
    assert "100 partitions in 10 topics, 11 groups with 200 positions" in done.stdout


@pytest.mark.clients
def test_the_tracing_bench_compares_ways_of_following(tmp_path: Path) -> None:
    done = run_bench("tracing", f"--rounds 1 --requests 200 --folder {tmp_path}")
    # Whether a bound is kept is not judged by so few requests.
    assert done.returncode in (0, 1), done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| off", "| 1 %", "| 100 %"))]
    assert len(rows) == 6, done.stdout
