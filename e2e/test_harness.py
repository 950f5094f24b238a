"""The harness itself: it must see an error in a log, a wait that runs out must say what it saw, and loads must add up."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # it has no __all__

from cells import Bound, check
from kafka_load import KafkaLoad, LoadPlan
from kube import Kube, KubectlError, wait_for
from load import Report
from operator_log import is_error
from penstock.testing.ledger import Ledger, Silence, Verdict
from penstock.testing.process import BrokerProcess
from penstock.testing.replicas import DisagreementError
from replicas_compared import compare_all
from story import conditions, find_in_order

STOP_AFTER_MESSAGES = 500


@pytest.mark.parametrize(
    "line",
    [
        '{"level": "error", "message": "cannot apply"}',
        '{"severity": "CRITICAL", "message": "lease lost"}',
        'time=2026-11-21T08:00:00Z level=error message="cannot apply"',
        "[2026-11-21 08:00:00,000] kopf.objects [ERROR   ] Handler failed",
        "2026-11-21 08:00:00 ERROR penstock: cannot apply",
        "08:00:00.000 error   cannot apply cluster=orders",
        "Traceback (most recent call last):",
    ],
)
def test_errors_are_seen(line: str) -> None:
    assert is_error(line)


@pytest.mark.parametrize(
    "line",
    [
        '{"level": "info", "message": "an error was expected and did not come"}',
        '{"level": "warning", "message": "no leader yet"}',
        'time=2026-11-21T08:00:00Z level=info message="0 errors"',
        "08:00:00.000 info    an error was expected and did not come",
        "",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    assert not is_error(line)


def test_a_wait_that_runs_out_says_what_it_saw() -> None:
    with pytest.raises(KubectlError, match="waited 0 s for rain; the sky is blue"):
        wait_for("rain", lambda: None, seconds=0, last_seen=lambda: "the sky is blue")


@pytest.mark.parametrize(("killed_ms", "recovered_ms"), [(1_000, 800), (1_500, 300), (1_801, None)])
def test_recovery_is_counted_from_the_kill_to_the_end_of_the_silence(
    killed_ms: int, recovered_ms: int | None
) -> None:
    verdict = Verdict(1, 1, 0, 1, 0, 0, 0, 0, 0, 0, None)
    report = Report(verdict, complete=True, silences=(Silence(990, 1_800),), client_errors={})
    assert report.interrupted(killed_ms).recovered_ms == recovered_ms


def test_a_fault_cost_the_longest_silence_that_touches_it() -> None:
    verdict = Verdict(1, 1, 0, 1, 0, 0, 0, 0, 0, 0, None)
    silences = (Silence(0, 100), Silence(990, 1_200), Silence(1_500, 1_900), Silence(5_000, 9_000))
    report = Report(verdict, complete=True, silences=silences, client_errors={})
    assert report.silent_ms(1_000, 2_000) == 400
    assert report.silent_ms(1_000, 1_400) == 210, "it began before the fault, and counts whole"
    assert report.silent_ms(3_000, 4_000) == 0
    assert report.silence == silences[-1]


@pytest.mark.parametrize("times", [[1, 401, 401], [1, 1, 2_501]], ids=["half", "worst"])
def test_a_cell_that_costs_more_than_its_bound_fails(times: list[int]) -> None:
    bound, usual_ms = Bound(p50_ms=100, max_ms=800), 100
    check([1, 400, 2_500], usual_ms, bound)
    with pytest.raises(AssertionError, match=str(times[-1])):
        check(times, usual_ms, bound)


def test_a_story_tells_each_sentence_once_and_keeps_the_order() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "BrokersMissing", "message": "2 of 3: one is away"}
    waits = {"type": "Progressing", "status": "True", "reason": "Waiting", "message": "one is away"}
    assert conditions([ready, waits]) == ["Ready=True BrokersMissing: 2 of 3: one is away"]
    lines = ["10:00:01 Event Left: a", "10:00:02 Event Came: b"]
    find_in_order(lines, "Left", "Came")
    with pytest.raises(AssertionError, match="'Left' is not in"):
        find_in_order(lines, "Came", "Left")


def test_a_load_that_reads_along_and_is_stopped_has_seen_everything_twice(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, listeners=("kafka", "admin")) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        (made,) = admin.create_topics([NewTopic("orders", 2)]).values()
        made.result()
        ledger = Ledger()
        plan = LoadPlan(
            broker.kafka, "orders", "run", 10 * STOP_AFTER_MESSAGES, rate=2_000.0, read_along=True
        )
        load = KafkaLoad(
            plan,
            ledger,
            lambda: time.monotonic_ns() // 1_000_000,
            stopped=lambda: ledger.sent >= STOP_AFTER_MESSAGES,
        )
        load.produce()
        assert (ledger.sent, ledger.acked, ledger.received) == (STOP_AFTER_MESSAGES,) * 3
        load.consume()
    verdict = ledger.judge()
    assert verdict.good, verdict
    assert (verdict.redelivered, verdict.duplicated) == (STOP_AFTER_MESSAGES, 0)


@dataclass(frozen=True)
class ToldKube(Kube):
    """kubectl with two StatefulSets of three brokers each, one in a namespace that is not asked about; a broker's state
    is what `states` has by its name."""

    states: tuple[tuple[str, str], ...] = ()

    def attempt(
        self, *arguments: str, stdin: str | None = None, seconds: float = 0.0
    ) -> subprocess.CompletedProcess[str]:
        answer: dict[str, Any]
        if "statefulsets" in arguments:
            names = {"scenario": "orders-0", "elsewhere": "other-0"}
            answer = {
                "items": [
                    {"metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": 3}}
                    for namespace, name in names.items()
                ]
            }
        else:
            pod = arguments[-1].partition("/pods/")[2].partition(":")[0]
            answer = {"commitIndex": 7, "firstIndex": 1, "index": 7, "entries": "e"}
            answer["machines"] = {"groups": dict(self.states)[pod]}
        return subprocess.CompletedProcess(arguments, 0, json.dumps(answer), "")


def _told(*states: str) -> Kube:
    pods = [f"orders-0-{ordinal}" for ordinal in range(3)]
    return ToldKube(Path(), Path(), states=tuple(zip(pods, states, strict=True)))


def test_replicas_that_hold_the_same_are_told_in_a_line() -> None:
    (line,) = compare_all(_told("a", "a", "a"), {"scenario"})
    assert line.startswith("scenario orders-0: 3 replicas agree on entries 1 to 7")


def test_a_replica_that_differs_fails_the_scenario() -> None:
    with pytest.raises(
        DisagreementError, match="state of groups at entry 7: a in orders-0-0, b in orders-0-2"
    ):
        compare_all(_told("a", "a", "b"), {"scenario"})


def test_shards_of_others_are_not_compared() -> None:
    assert compare_all(_told("a", "a", "b"), {"another"}) == []
