"""Durations and quantities."""

from __future__ import annotations

import pytest

from penstock_operator.api.topic import value_text
from penstock_operator.api.units import duration_ms, quantity_bytes, quantity_exact


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("50ms", 50), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("1.5s", 1500), ("0s", 0)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5y", "5s\n", "9" * 40 + "s", "1e3s"])
def test_what_is_no_duration_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10Gi", 10 * 2**30),
        ("1Mi", 2**20),
        ("1M", 10**6),
        (1048576, 1048576),
        ("1.5Ki", 1536),
        ("1500m", 2),
        ("0", 0),
    ],
)
def test_quantities(value: int | str, expected: int) -> None:
    assert quantity_bytes(value) == expected


@pytest.mark.parametrize("value", ["", "ten", "10GB", "-1", "1 Gi", True, "9" * 40])
def test_what_is_no_quantity_is_refused_with_a_sentence(value: int | str) -> None:
    with pytest.raises(ValueError, match="is not a size: write"):
        quantity_bytes(value)


def test_equal_quantities_are_equal() -> None:
    assert quantity_exact("1000m") == quantity_exact("1") == quantity_exact(1)
    assert quantity_exact("1024Mi") == quantity_exact("1Gi")


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (86400000, "86400000"), (1000.0, "1000"), (0.5, "0.5"), ("x", "x")],
)
def test_values_as_kafka_writes_them(value: object, text: str) -> None:
    assert value_text(value) == text
