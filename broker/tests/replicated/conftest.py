"""One shard of three brokers for all scenarios: whole before each of them, and its replicas compared after each."""

from __future__ import annotations

import gc
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client_hooks import mark_foreign, pytest_configure, pytest_runtest_setup
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pytest_configure", "pytest_runtest_setup"]

FOLDER = Path(__file__).parent
CONFIG = {"log.segment.bytes": 8 << 20, "min.insync.replicas": 2}
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_foreign(items, FOLDER)


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardProcesses]:
    """The brokers that all scenarios share."""
    folder = tmp_path_factory.mktemp("shard")
    shard = ShardProcesses(folder, config=CONFIG)
    try:
        yield shard
    finally:
        shard.close()
        for broker in shard.brokers:  # Logs stay for whoever looks into a failure.
            shutil.rmtree(broker.data, ignore_errors=True)


@pytest.fixture
def shard(brokers: ShardProcesses) -> Iterator[ShardProcesses]:
    """The shard, whole; what a scenario stopped is started again, and then all replicas have to agree."""
    yield brokers.start()
    brokers.start()
    brokers.agreed()


@pytest.fixture
def bootstrap(shard: ShardProcesses) -> str:
    """One follower, so that everything a client asks begins at a broker that cannot serve it itself."""
    return shard.brokers[shard.followers()[0]].kafka


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    """A group name nobody used before."""
    return f"group-{next(_numbers)}-{request.node.originalname}"


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a client leaves behind is collected while its own test's warning filters hold."""
    yield
    gc.collect()
