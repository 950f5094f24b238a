"""The proof that the simulated shards find what they are for: rules of the election broken on purpose, each noticed within a
bounded number of seeds."""

from __future__ import annotations

import pytest

from master_world import run_life
from penstock.testing.broken_elections import MUTATIONS, Mutation
from penstock.testing.broken_rules import expect_notice


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_simulated_masters_notice_a_broken_rule(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    expect_notice(run_life, mutation.__name__)
