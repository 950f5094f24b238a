"""What the foreign clients talk to: one broker for all scenarios, another that may be killed, topics of their own.

PENSTOCK_TEST_PEER=kafka puts Apache Kafka in the broker's place: a scenario that fails there is wrong itself.
PENSTOCK_TEST_PEER=shard puts a shard of three brokers there, of which clients are told a follower; what is killed is
its leader.
A missing program fails its tests with a sentence; PENSTOCK_SKIP_JAVA=1 and PENSTOCK_SKIP_KCAT=1 leave them out.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client_peer import create_topic, make_peer
from driver_kcat import KcatMissingError, kcat
from penstock.testing.apache_kafka import KafkaMissingError, java_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client_peer import MakeTopic, Peer

# Warnings are errors in our tests. Two of kafka-python's are not ours to mend: it reads its schemas by a call that
# Python 3.11 deprecates, and leaves a pair of sockets open when it closes.
FOREIGN_WARNINGS = (
    "ignore:(read_text|open_text) is deprecated:DeprecationWarning",
    "ignore:unclosed <socket:ResourceWarning",
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.coordinator.assignors.cooperative_sticky  # noqa: F401

FOLDER = Path(__file__).parent
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario(words): a line of docs/compatibility.md")
    config.addinivalue_line("markers", "kcat: needs the kcat program")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == FOLDER:
            for warning in FOREIGN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, needed, missing in (
        ("java", lambda: java_command("none"), KafkaMissingError),
        ("kcat", kcat, KcatMissingError),
    ):
        if item.get_closest_marker(mark) is None:
            continue
        opt_out = f"PENSTOCK_SKIP_{mark.upper()}"
        if os.environ.get(opt_out) == "1":
            pytest.skip(f"{opt_out}=1")
        try:
            needed()
        except missing as error:
            pytest.fail(f"{error}, or leave these tests out with {opt_out}=1", pytrace=False)


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
