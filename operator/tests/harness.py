"""An engine on a fake or a real API server, with fake controllers and fake brokers, driven pass by pass."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from fake_broker import FakeBroker, FakeShard
from fake_controllers import FakeControllers
from penstock_operator.api.names import API_VERSION
from penstock_operator.desired.identity import Environment
from penstock_operator.engine import Engine
from penstock_operator.kube import KubeApi
from penstock_operator.kube_store import HttpBrokers
from penstock_operator.reconcile.ports import Key
from penstock_operator.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE_S = 60.0
POLL_S = 0.02


class Harness:
    """See the module."""

    def __init__(self, kube: KubeApi, namespace: str, shard: FakeShard, engine: Engine) -> None:
        self.kube = kube
        self.namespace = namespace
        self.shard = shard
        self.engine = engine
        self.controllers = self.fake_controllers(kube)

    def fake_controllers(self, kube: KubeApi) -> FakeControllers:
        """Controllers whose pods are these brokers."""

        def probe(name: str) -> bool:
            return not self.shard.brokers[name].not_ready

        return FakeControllers(kube, self.namespace, self.broker_started, probe)

    @property
    def broker(self) -> FakeBroker:
        """The first broker, which is the only one where a test needs no more."""
        return self.shard.brokers["orders-0-0"]

    async def broker_started(self, name: str) -> None:
        """What a starting broker does: read its configuration file."""
        config_map = await self.kube.get("v1", "ConfigMap", self.namespace, "orders-0")
        assert config_map is not None, "pods wait for their ConfigMap"
        broker = self.shard.brokers[name]
        if broker.file:
            self.shard.restarted(name)
        broker.file = yaml.safe_load(config_map["data"][f"{name}.yaml"])

    async def create(self, kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        return await self.kube.create(
            {
                "apiVersion": API_VERSION,
                "kind": kind,
                "metadata": {"name": name, "namespace": self.namespace, **metadata},
                "spec": spec,
            }
        )

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        found = await self.kube.get(API_VERSION, kind, self.namespace, name)
        assert found is not None, f"{kind} {name} is gone"
        return found

    async def edit(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        await self.kube.merge(API_VERSION, kind, self.namespace, name, patch)

    async def turn(self, *keys: tuple[str, str]) -> None:
        """What the watch would do, then one pass over each named object."""
        for kind in ("Topic", "ConsumerGroup"):
            for resource in await self.kube.list_objects(API_VERSION, kind, self.namespace):
                self.engine.resource_seen(resource, gone=False)
        for kind, name in keys:
            key = Key(kind, self.namespace, name)
            with self.engine.queue._around(key):
                await self.engine._reconcile(key)

    async def settle(
        self, kind: str, name: str, check: Callable[[dict[str, Any]], bool], passes: int = 12
    ) -> Any:
        """Passes, with controllers in between, until the check holds; fails with what status says."""
        for _ in range(passes):
            await self.controllers.step()
            await self.turn((kind, name))
            self.engine._clusters.forget(self.namespace, "orders")
            found = await self.kube.get(API_VERSION, kind, self.namespace, name)
            if found is not None and check(found):
                return found
        raise AssertionError(f"{kind} {name} did not settle: {found and found.get('status')}")


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    for entry in resource.get("status", {}).get("conditions", []):
        if entry["type"] == kind:
            found: dict[str, Any] = entry
            return found
    return {"status": "", "reason": "", "message": ""}


def is_ready(resource: dict[str, Any]) -> bool:
    entry = condition(resource, "Ready")
    return bool(
        entry["status"] == "True" and entry["observedGeneration"] == resource["metadata"]["generation"]
    )


def has_reason(reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda resource: condition(resource, "Ready")["reason"] == reason


@asynccontextmanager
async def fake_shard(replicas: int) -> AsyncIterator[FakeShard]:
    """Brokers on 127.0.0.1, 127.0.0.2, ... at one port, as pods have it; the first one leads."""
    shard = FakeShard()
    brokers = [FakeBroker(f"orders-0-{ordinal}", shard) for ordinal in range(replicas)]
    try:
        for ordinal, broker in enumerate(brokers):
            await broker.start(brokers[0].port, f"127.0.0.{ordinal + 1}")
        shard.lead(brokers[0].name)
        yield shard
    finally:
        for broker in brokers:
            await broker.stop()


@asynccontextmanager
async def running(
    kube: KubeApi, namespace: str = "shop", replicas: int = 1, tracer: Tracer | None = None
) -> AsyncIterator[Harness]:
    tracer = tracer or Tracer()
    async with (
        aiohttp.ClientSession(trace_configs=list(tracer.hooks)) as session,
        fake_shard(replicas) as shard,
    ):
        clock = itertools.count(0, 10)  # every look is later than the cache lives
        engine = Engine(
            tracer.seeing(kube),
            HttpBrokers(session, shard.brokers["orders-0-0"].port),
            Environment(image="penstock:test"),
            clock=lambda: float(next(clock)),
            random=lambda: 0.5,
            spans=tracer.spans,
        )
        yield Harness(kube, namespace, shard, engine)


async def eventually(check: Callable[[], Any], what: str) -> Any:
    """Poll an async check until it returns something true, within a deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while True:
        found = await check()
        if found:
            return found
        assert loop.time() < deadline, f"not in time: {what}"
        await asyncio.sleep(POLL_S)
