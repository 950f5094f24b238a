"""What a MessageCluster of mode MasterSlave may say, and that its brokers take all of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.replication.master_timing import lease_timing
from penstock_operator.api.check import check_resource
from penstock_operator.api.units import duration_ms


def problems(**spec: Any) -> list[str]:
    return check_resource(
        {
            "apiVersion": "penstock.io/v1alpha1",
            "kind": "MessageCluster",
            "metadata": {"name": "orders"},
            "spec": {"mode": "MasterSlave", **spec},
        }
    )


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"replicas": 2},
        {"replicas": 4, "minInSync": 4},
        {"replicas": 2, "replication": "sync", "failover": {"maxLag": 0, "allowDataLoss": False}},
        {"replicas": 2, "replication": "async", "failover": {"maxLag": 100, "allowDataLoss": True}},
        {"replicas": 2, "failover": {"leaseDuration": "1s", "renewInterval": "500ms"}},
        {"replicas": 2, "failover": {"leaseDuration": "60s", "renewInterval": "30s"}},
        {"replicas": 2, "failover": {"leaseDuration": "4s"}},
        {"replicas": 2, "failover": {"renewInterval": "3000ms"}},
    ],
)
def test_what_fits_is_taken(spec: dict[str, Any]) -> None:
    assert problems(**spec) == []


@pytest.mark.parametrize(
    ("failover", "refused"),
    [
        ({"leaseDuration": "999ms", "renewInterval": "100ms"}, "failover.leaseDuration is"),
        ({"leaseDuration": "60001ms"}, "failover.leaseDuration is"),
        ({"leaseDuration": "1m"}, "failover.leaseDuration is"),
        ({"leaseDuration": "4s", "renewInterval": "2001ms"}, "failover.renewInterval does not fit"),
        ({"leaseDuration": "3.999s"}, "failover.renewInterval does not fit"),
        ({"renewInterval": "99ms"}, "failover.renewInterval does not fit"),
        ({"renewInterval": "0.05m"}, "failover.renewInterval does not fit"),
        ({"maxLag": 1}, "failover.maxLag has no effect"),
    ],
)
def test_limits_are_refused_by_the_rule_that_they_are_of(failover: dict[str, Any], refused: str) -> None:
    (problem,) = problems(replicas=2, replication="async", failover=failover)
    assert f": {refused}" in problem


durations = st.one_of(
    st.integers(0, 999_999).map(lambda number: f"{number}ms"),
    st.integers(0, 999).map(lambda number: f"{number}s"),
    st.tuples(st.integers(0, 70), st.integers(0, 999)).map(lambda parts: f"{parts[0]}.{parts[1]:03}s"),
)


@given(durations, durations)
def test_every_lease_that_is_taken_is_one_that_brokers_can_keep(lease: str, renewal: str) -> None:
    if not problems(replicas=2, failover={"leaseDuration": lease, "renewInterval": renewal}):
        timing = lease_timing(duration_ms(lease), duration_ms(renewal))
        assert timing.request_timeout_ms >= 100
