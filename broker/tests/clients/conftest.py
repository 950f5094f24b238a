"""What the foreign clients talk to: one broker for all scenarios, another that may be killed, topics of their own.

PENSTOCK_TEST_PEER=kafka puts Apache Kafka in the broker's place: a scenario that fails there is wrong itself.
PENSTOCK_TEST_PEER=shard puts a shard of three brokers there, of which clients are told a follower; what is killed is
its leader.
A missing program fails its tests with a sentence; PENSTOCK_SKIP_JAVA=1 and PENSTOCK_SKIP_KCAT=1 leave them out.
"""

from __future__ import annotations

import gc
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client_hooks import mark_foreign, pytest_configure, pytest_runtest_setup
from client_peer import create_topic, make_peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client_peer import MakeTopic, Peer

__all__ = ["pytest_configure", "pytest_runtest_setup"]

FOLDER = Path(__file__).parent
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_foreign(items, FOLDER)


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of the broker that all scenarios share; nobody stops it."""
    folder = tmp_path_factory.mktemp("shared-broker")
    with make_peer(folder) as peer:
        yield peer.kafka
    shutil.rmtree(folder / "data", ignore_errors=True)  # Logs stay for whoever looks into a failure.


@pytest.fixture(scope="module")
def restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A broker that the scenarios of one module may kill and restart."""
    folder = tmp_path_factory.mktemp("restarted-broker")
    with make_peer(folder) as peer:
        yield peer
    shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture
def make_topic(bootstrap: str) -> MakeTopic:
    """Makes topics on the shared broker: `make_topic(partitions, config)` returns the name."""
    return lambda partitions=1, config=None: create_topic(bootstrap, partitions, config)


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    """A group name nobody used before."""
    return f"group-{next(_numbers)}-{request.node.originalname}"


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a client leaves behind is collected while its own test's warning filters hold."""
    yield
    gc.collect()
