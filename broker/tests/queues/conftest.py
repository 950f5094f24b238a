"""A real broker of each test module's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.testing.process import BrokerProcess


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as running:
        yield running
