"""The proof that simulations find what they are for: with a rule broken on purpose, one of few lives has to notice."""

from __future__ import annotations

from collections.abc import Callable

from penstock.testing.simulated_cluster.checks import Violation

SEEDS_MAX = 300


def expect_notice(run: Callable[[int], object], rule: str) -> None:
    """Lives one seed after the other until something is violated. Raises AssertionError when nothing is."""
    for seed in range(SEEDS_MAX):
        try:
            run(seed)
        except Violation as violation:
            print(f"{rule}: seed {seed}: {str(violation).splitlines()[0]}")
            return
    raise AssertionError(f"{SEEDS_MAX} lives noticed nothing of {rule}")
