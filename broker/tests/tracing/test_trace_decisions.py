"""Which batches are followed, and under which ids: the same on every broker, by what stands in the batch alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from penstock.tracing.budget import Budget
from penstock.tracing.context import TraceContext
from penstock.tracing.derived import Place, derived_span_ids, derived_trace_id, partition_seed
from penstock.tracing.sampling import BOUND_ALL, Sampled, decide, picked, ratio_bound

PLACE = Place(partition_seed("cluster-1", bytes(range(16)), 3), 4711, 7)
CONTEXT = TraceContext(1, 2, True, (("a", "b"),))


def test_derived_ids_are_fixed_for_good() -> None:
    """Others compute them too: these numbers may not change."""
    assert f"{derived_trace_id(PLACE):032x}" == "cdc93dc3ebd5c92d09d73ad9dfbda856"
    assert [f"{number:016x}" for number in derived_span_ids(PLACE)] == [
        "b00982107d9dd7c7",
        "e3dd486e48944311",
        "2f96f3cc60d5ba29",
    ]


def test_the_trace_id_depends_on_the_place_and_not_on_the_epoch() -> None:
    others = [
        PLACE._replace(seed=partition_seed("cluster-2", bytes(range(16)), 3)),
        PLACE._replace(seed=partition_seed("cluster-1", bytes(16), 3)),
        PLACE._replace(seed=partition_seed("cluster-1", bytes(range(16)), 4)),
        PLACE._replace(base_offset=4712),
    ]
    ids = {derived_trace_id(place) for place in [PLACE, *others]}
    assert len(ids) == 5
    assert derived_trace_id(PLACE._replace(epoch=8)) == derived_trace_id(PLACE)


def test_span_ids_depend_on_the_epoch_too() -> None:
    first, second = derived_span_ids(PLACE), derived_span_ids(PLACE._replace(epoch=8))
    assert len({*first, *second}) == 6


def test_a_context_decides_by_its_flag_whatever_the_ratio_is() -> None:
    assert decide(CONTEXT, PLACE, 0, always=False) == Sampled(1, 2, (("a", "b"),))
    assert decide(CONTEXT._replace(sampled=False), PLACE, BOUND_ALL, always=False) is None


def test_a_rule_follows_what_nobody_else_would() -> None:
    assert decide(CONTEXT._replace(sampled=False), PLACE, 0, always=True) == Sampled(1, 2, (("a", "b"),))
    assert decide(None, PLACE, 0, always=True) == Sampled(derived_trace_id(PLACE))


def test_the_ratio_decides_where_there_is_no_context() -> None:
    assert decide(None, PLACE, ratio_bound(0.0), always=False) is None
    assert decide(None, PLACE, ratio_bound(1.0), always=False) == Sampled(derived_trace_id(PLACE))
    chosen = sum(
        decide(None, PLACE._replace(base_offset=offset), ratio_bound(0.1), always=False) is not None
        for offset in range(10_000)
    )
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
