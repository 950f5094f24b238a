"""Scenarios on kind: one cluster of four nodes for the session, one namespace for each test, and two looks after each: no
error in the operator's log that nobody expects, and replicas that hold the same.

    make e2e                               all scenarios
    .venv/bin/pytest e2e -m smoke          the main path only
    PENSTOCK_E2E_KEEP=1 …                  leave the cluster for a look, and for the next run

Scenarios of several brokers that leave them whole share one shard (`shard`; `cell` has one of each mode). What loads and
comparisons found is printed at the end. A test that fails leaves `build/e2e/<test>/` with the objects, events and logs of its namespace and of the operator.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

import environment as penstock
from cells import Cell, timeouts
from dump import dump
from kube import wait_for
from modes import MASTER_SLAVE, MODES, RAFT
from nodes import rename_image
from operator_log import OperatorLog
from prometheus import Prometheus, prometheus_beside
from replicas_compared import compare_all
from resources import TOPIC, outside_listeners, topic
from runbooks import Runbook
from shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from environment import Environment
    from kube import Kube
    from modes import Mode

CLUSTER_NAME = "penstock-e2e"
OPERATOR_SELECTOR = "app.kubernetes.io/name=penstock-operator"
OPERATOR_DEPLOYMENT = "penstock-operator"
TEST_SECONDS_MAX = 600
NAMESPACE_LABEL = "penstock-e2e"
NAMESPACES_GONE_SECONDS_MAX = 180
OPERATOR_READY_SECONDS_MAX = 90
OPERATOR_REPLICAS = 2
WORKERS = 3
SHARED_CLUSTER = "orders"
SHARED_TOPIC = "payments"
SHARED_PARTITIONS = 4
FOUND = ("load", "story", "replicas")
"""Properties of tests that are printed at the end of the session, test by test; what cells found comes behind them."""

_phase_reports = pytest.StashKey[dict[str, pytest.TestReport]]()


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers of this folder."""
    config.addinivalue_line("markers", "smoke: the main path on kind, quick enough for `make test`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A scenario is a minutes' matter: it needs more time than a unit test may take."""
    for item in items:
        if "environment" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kind)
            item.add_marker(pytest.mark.timeout(TEST_SECONDS_MAX))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds images before the first test, so that no test's own time is spent on it."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "environment" in wanted:
        penstock.prepare_machine()
        penstock.build_product_image()
    if "collector_image" in wanted:
        penstock.build_collector_image()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Keeps each phase's report, so that fixtures know whether their test failed."""
    report = yield
    item.stash.setdefault(_phase_reports, {})[report.when] = report
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    """Compares the replicas of every shard that a scenario leaves, as a part of the scenario: none can forget it."""
    yield
    if "environment" in item.fixturenames:
        kube = cast("Environment", item.funcargs["environment"]).kube
        lines = compare_all(kube, _namespaces(kube, active=True))
        item.user_properties.extend(("replicas", line) for line in lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what loads and comparisons found."""
    for report in terminalreporter.stats.get("passed", []):
        lines = [str(value) for name, value in report.user_properties if name in FOUND]
        if report.when == "call" and lines:
            terminalreporter.write_line(report.nodeid.rpartition("::")[2])
            for line in lines:
                terminalreporter.write_line(f"    {line}")
    cells = [
        str(value)
        for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
        for name, value in report.user_properties
        if report.when == "call" and name == "cell"
    ]
    if cells:
        terminalreporter.section("cells")
        terminalreporter.write_line(timeouts())
        for line in cells:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def environment() -> Iterator[Environment]:
    """The kind cluster with Penstock on it."""
    ready = penstock.bring_up(CLUSTER_NAME, OPERATOR_REPLICAS, WORKERS)
    yield ready
    try:
        # Deleting a namespace must always come to an end: a finalizer that nobody releases shows here.
        wait_for(
            "the scenarios' namespaces to be gone",
            lambda: not _namespaces(ready.kube),
            seconds=NAMESPACES_GONE_SECONDS_MAX,
            last_seen=lambda: ", ".join(sorted(_namespaces(ready.kube))),
        )
    finally:
        if not os.environ.get("PENSTOCK_E2E_KEEP"):
            penstock.tear_down(CLUSTER_NAME)


def _namespaces(kube: Kube, *, active: bool = False) -> set[str]:
    """The scenarios' namespaces; with `active` those that are not being deleted."""
    return {
        found["metadata"]["name"]
        for found in kube.items("namespaces", NAMESPACE_LABEL)
        if not (active and found["metadata"].get("deletionTimestamp"))
    }


@dataclass
class Operator:
    """The operator as somebody meets it who runs it: a Deployment, its pods, its log, its Lease."""

    kube: Kube
    log: OperatorLog

    def pods(self) -> list[str]:
        """Names of its pods."""
        return [pod["metadata"]["name"] for pod in self.kube.items("pods", OPERATOR_SELECTOR)]

    def leader(self) -> str | None:
        """Who holds the Lease now."""
        for lease in self.kube.items("leases"):
            holder = lease["spec"].get("holderIdentity")
            if holder:
                return str(holder)
        return None

    def leading_pod(self) -> str:
        """The pod whose name is in the holder's identity."""
        holder = wait_for("an operator to lead", self.leader, seconds=OPERATOR_READY_SECONDS_MAX)
        return next(pod for pod in self.pods() if pod in holder)

    def kill(self, *pods: str) -> None:
        """Ends pods at once, without a goodbye."""
        self.log.gather()
        self.kube.run("delete", "pod", *pods, "--grace-period=0", "--force", "--wait=false")

    def scale(self, replicas: int) -> None:
        """Changes the number of operators and waits until it is so."""
        self.log.gather()
        self.kube.run("scale", f"deployment/{OPERATOR_DEPLOYMENT}", f"--replicas={replicas}")
        if replicas:
            self.wait_available()
        else:
            wait_for("the operators to be gone", lambda: not self.pods(), seconds=OPERATOR_READY_SECONDS_MAX)

    def wait_available(self) -> None:
        """Waits until all wanted pods are available."""
        self.kube.run(
            "rollout",
            "status",
            f"deployment/{OPERATOR_DEPLOYMENT}",
            f"--timeout={OPERATOR_READY_SECONDS_MAX}s",
        )


@pytest.fixture(scope="session")
def operator_of_session(environment: Environment) -> Operator:
    """The operator, with the log that is kept through the session."""
    kube = environment.kube.within(penstock.OPERATOR_NAMESPACE)
    return Operator(kube, OperatorLog(kube, OPERATOR_SELECTOR))


@pytest.fixture(autouse=True)
def operator(request: pytest.FixtureRequest) -> Iterator[Operator | None]:
    """The operator; afterwards its log is read, and an error that the scenario does not expect fails it."""
    if not request.node.get_closest_marker("kind"):
        yield None
        return
    found: Operator = request.getfixturevalue("operator_of_session")
    found.log.expected.clear()
    yield found
    errors = found.log.judge()
    if errors:
        pytest.fail(
            "the operator logged errors that nobody expects:\n" + "\n".join(errors[:20]), pytrace=False
        )


@pytest.fixture
def kube(environment: Environment, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace of the test's own, deleted afterwards and dumped after a failure."""
    with_namespace = new_namespace(environment.kube, _plain_name(request))
    yield with_namespace
    _dump_failed(request, environment, with_namespace)
    _delete_namespace(with_namespace)


@pytest.fixture
def neighbour(environment: Environment, kube: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """Another namespace, for scenarios that need two."""
    with_namespace = new_namespace(environment.kube, f"neighbour-{_plain_name(request)}")
    yield with_namespace
    _delete_namespace(with_namespace)


@dataclass
class SharedShards:
    """The brokers that scenarios share, a shard for each mode; those that a failed scenario leaves are not used again."""

    kube: Kube
    shards: dict[str, Shard] = field(default_factory=dict)

    def whole(self, mode: Mode) -> Shard:
        """The shard of a mode, made if there is none; waits until it is whole."""
        if mode.name not in self.shards:
            kube = new_namespace(self.kube, f"shard-{mode.name.lower()}")
            kube.apply(
                mode.cluster(SHARED_CLUSTER, listeners=outside_listeners(kube)),
                topic(SHARED_TOPIC, SHARED_CLUSTER, partitions=SHARED_PARTITIONS),
            )
            kube.wait_ready(TOPIC, SHARED_TOPIC)
            self.shards[mode.name] = Shard(kube, SHARED_CLUSTER, mode.replicas)
        self.shards[mode.name].wait_whole()
        return self.shards[mode.name]

    def drop(self, mode: Mode) -> None:
        """Deletes one."""
        shard = self.shards.pop(mode.name, None)
        if shard is not None:
            _delete_namespace(shard.kube)

    def drop_all(self) -> list[str]:
        """Deletes all, for a scenario that would break them; returns their namespaces, which take a moment to go."""
        namespaces = [shard.kube.namespace for shard in self.shards.values()]
        for mode in MODES:
            self.drop(mode)
        return namespaces


@pytest.fixture(scope="session")
def shards_of_session(environment: Environment) -> Iterator[SharedShards]:
    """What `shard` and `cell` hand out."""
    shared = SharedShards(environment.kube)
    yield shared
    shared.drop_all()


@pytest.fixture
def shard(
    environment: Environment, shards_of_session: SharedShards, request: pytest.FixtureRequest
) -> Iterator[Shard]:
    """Three brokers that are whole, with topic SHARED_TOPIC; the scenario leaves them whole."""
    found = shards_of_session.whole(RAFT)
    yield found
    if _dump_failed(request, environment, found.kube):
        shards_of_session.drop(RAFT)


@pytest.fixture
def masters(
    environment: Environment, shards_of_session: SharedShards, request: pytest.FixtureRequest
) -> Iterator[Shard]:
    """The same with a master and a slave."""
    found = shards_of_session.whole(MASTER_SLAVE)
    yield found
    if _dump_failed(request, environment, found.kube):
        shards_of_session.drop(MASTER_SLAVE)


@pytest.fixture(scope="session")
def next_image(environment: Environment) -> str:
    """Another image for brokers, as far as Kubernetes and the operator know: the same one under another name."""
    return rename_image(environment, environment.image, f"{environment.image}-next")


@pytest.fixture(scope="session")
def collector_image(environment: Environment) -> str:
    """OpenTelemetry's Collector, in the cluster's nodes."""
    image = penstock.build_collector_image()
    penstock.load_images(environment.name, environment.kube, image)
    return image


@pytest.fixture(scope="module")
def prometheus(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the chart's rules that scrapes all brokers and operators."""
    with prometheus_beside(environment.kube, tmp_path_factory.mktemp("prometheus")) as found:
        yield found


@pytest.fixture
def take_up(tmp_path: Path) -> Callable[..., Runbook]:
    """Takes up a runbook: its name, a Kube, the scenario's words for the page's."""

    def taken(name: str, kube: Kube, words: dict[str, str], without: tuple[str, ...] = ()) -> Runbook:
        return Runbook(name, kube, tmp_path, {"-n shop": f"-n {kube.namespace}", **words}, without)

    return taken


@pytest.fixture(params=MODES, ids=lambda mode: mode.name)
def mode(request: pytest.FixtureRequest) -> Mode:
    """A mode; the scenario runs in each of them."""
    return cast("Mode", request.param)


@pytest.fixture
def cell(
    environment: Environment,
    shards_of_session: SharedShards,
    mode: Mode,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> Iterator[Cell]:
    """A whole shard of each mode, with topic SHARED_TOPIC; the scenario leaves it whole."""
    shard = shards_of_session.whole(mode)
    yield Cell(mode, shard, SHARED_TOPIC, environment, record_property)
    if _dump_failed(request, environment, shard.kube):
        shards_of_session.drop(mode)


def _plain_name(request: pytest.FixtureRequest) -> str:
    name: str = request.node.name
    return re.sub(r"[^a-z0-9]+", "-", name.removeprefix("test_").lower())


def _dump_failed(request: pytest.FixtureRequest, environment: Environment, kube: Kube) -> bool:
    """Whether the test failed; then what its namespace holds is kept."""
    failed = any(report.failed for report in request.node.stash.get(_phase_reports, {}).values())
    if failed:
        folder = penstock.ROOT / "build" / "e2e" / _plain_name(request)
        dump(folder, kube, environment.kube.within(penstock.OPERATOR_NAMESPACE))
    return failed


def _delete_namespace(kube: Kube) -> None:
    kube.run("delete", "namespace", kube.namespace, "--ignore-not-found", "--wait=false")


def new_namespace(kube: Kube, name: str) -> Kube:
    """A namespace whose name starts with `name`; an old one of that name is waited for until it is gone."""
    name = f"e2e-{name}"[:60].strip("-")
    kube.wait_gone("namespace", name)
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {NAMESPACE_LABEL: "yes"}},
    }
    kube.apply(manifest)
    return kube.within(name)
