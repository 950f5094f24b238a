"""A real broker of each test module's own, and the command line against it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.testing.process import BrokerProcess
from penstock_command import Penstock, penstock_against


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def penstock(broker: BrokerProcess) -> Penstock:
    return penstock_against(broker.admin, broker.http)
