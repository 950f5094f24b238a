"""Which batches are followed, and under which ids: the same on every broker, by what stands in the batch alone."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from penstock.tracing.budget import Budget
from penstock.tracing.context import TraceContext
from penstock.tracing.derived import derived_span_ids, derived_trace_id, partition_seed, picks
from penstock.tracing.sampling import BOUND_ALL, Sampled, decide, picked, ratio_bound

SEED = partition_seed("cluster-1", bytes(range(16)), 3)
CONTEXT = TraceContext(1, 2, True, (("a", "b"),))


def test_derived_ids_are_fixed_for_good() -> None:
    """Others compute them too: these numbers may not change."""
    assert f"{derived_trace_id(SEED, 4711):032x}" == "32ed1f5deea168d94463dc8fedff3f3b"
    assert [f"{number:016x}" for number in derived_span_ids(SEED, 4711, 7)] == [
        "d669cdaa7c36bc77",
        "75e0f4da290559f7",
        "52c334baa6fea0b2",
    ]


def test_the_guide_computes_the_same_trace_id() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "tracing.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    values: dict[str, Any] = {
        "cluster_id": "cluster-1",
        "topic_id": bytes(range(16)),
        "partition": 3,
        "base_offset": 4711,
    }
    exec(textwrap.dedent(program), values)
    assert values["trace_id"] == f"{derived_trace_id(SEED, 4711):032x}"


def test_no_two_batches_share_a_trace() -> None:
    seeds = [
        SEED,
        partition_seed("cluster-2", bytes(range(16)), 3),
        partition_seed("cluster-1", bytes(16), 3),
        partition_seed("cluster-1", bytes(range(16)), 4),
    ]
    ids = {derived_trace_id(seed, offset) for seed in seeds for offset in range(1000)}
    assert len(ids) == 4000
    assert derived_trace_id(0, 0) == 1


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 63) - 1), st.integers(0, BOUND_ALL))
def test_a_ratio_picks_by_the_id_that_the_batch_would_have(seed: int, offset: int, bound: int) -> None:
    trace_id = derived_trace_id(seed, offset)
    # The id that may not be 0 is the only one that differs.
    assert picks(seed, offset, bound) == picked(trace_id, bound) or trace_id == 1


def test_span_ids_depend_on_the_epoch_too() -> None:
    first, second = derived_span_ids(SEED, 4711, 7), derived_span_ids(SEED, 4711, 8)
    assert len({*first, *second}) == 6


def test_a_context_decides_by_its_flag_whatever_the_ratio_is() -> None:
    assert decide(CONTEXT, SEED, 4711, 0) == Sampled(1, 2, (("a", "b"),))
    assert decide(CONTEXT._replace(sampled=False), SEED, 4711, BOUND_ALL) is None


def test_a_rule_follows_what_nobody_else_would() -> None:
    assert decide(CONTEXT._replace(sampled=False), SEED, 4711, 0, True) == Sampled(1, 2, (("a", "b"),))
    assert decide(None, SEED, 4711, 0, True) == Sampled(derived_trace_id(SEED, 4711))


def test_the_ratio_decides_where_there_is_no_context() -> None:
    assert decide(None, SEED, 4711, ratio_bound(0.0)) is None
    assert decide(None, SEED, 4711, ratio_bound(1.0)) == Sampled(derived_trace_id(SEED, 4711))
    chosen = sum(decide(None, SEED, offset, ratio_bound(0.1)) is not None for offset in range(10_000))
    assert 900 < chosen < 1100


@given(st.integers(1, (1 << 128) - 1), st.floats(0, 1))
def test_ratios_are_judged_as_opentelemetry_judges_them(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "").decision
    assert picked(trace_id, ratio_bound(ratio)) == (theirs is Decision.RECORD_AND_SAMPLE)


def test_a_budget_is_for_each_second() -> None:
    budget = Budget(2)
    assert [budget.take(now) for now in (0, 500, 999, 1000, 1001, 1002, 9000)] == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
    ]
    assert budget.refused == 2
