"""The checker of histories, compiled once."""

from __future__ import annotations

import pytest

from lin_checker import Checker


@pytest.fixture(scope="session")
def checker() -> Checker:
    """The compiled checker."""
    return Checker.build()
