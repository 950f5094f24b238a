"""One operator process from start to end: lead, watch, work, stop.

The order of the end: the watch stops, workers finish or are cancelled, the Lease is released, connections close, and
spans that wait are sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import kopf

from penstock_operator import handlers
from penstock_operator.api.crd import KINDS
from penstock_operator.api.names import GROUP
from penstock_operator.desired.identity import Environment
from penstock_operator.engine import Engine
from penstock_operator.health import Health
from penstock_operator.kube import AioKubeApi, KubeApi
from penstock_operator.kube_errors import KubeError
from penstock_operator.kube_store import HttpBrokers
from penstock_operator.leader import LeaderElection
from penstock_operator.tracing.tracer import open_tracer

if TYPE_CHECKING:
    from penstock_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

EXIT_LEASE_LOST: Final = 1
STOP_SECONDS_MAX: Final = 10.0
ADMIN_CONNECTIONS_MAX: Final = 64


async def run_operator(settings: OperatorSettings) -> int:
    """Run until a signal or the loss of the Lease; returns the exit code. Raises KubeError when it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    kube = await AioKubeApi.connect()
    connector = aiohttp.TCPConnector(limit=ADMIN_CONNECTIONS_MAX)
    tracer = open_tracer(settings)
    try:
        async with aiohttp.ClientSession(connector=connector, trace_configs=list(tracer.hooks)) as session:
            environment = Environment(image=settings.image, operator_namespace=settings.own_namespace)
            engine = Engine(
                tracer.seeing(kube),
                HttpBrokers(session),
                environment,
                clock=loop.time,
                random=random.random,
                resync_s=settings.resync_s,
                spans=tracer.spans,
            )
            health = Health(engine.queue)
            for collector in tracer.collectors:
                health.add(collector)
            runner = await health.serve(settings.health_host, settings.health_port)
            try:
                return await _lead(settings, kube, engine, health, stop)
            finally:
                await runner.cleanup()
    finally:
        await kube.close()
        await tracer.close()


async def check_definitions(kube: KubeApi) -> None:
    """Raise KubeError with a sentence when the CRDs are not installed: a watch on them would wait in silence."""
    for kind in KINDS:
        name = f"{kind.plural}.{GROUP}"
        definition = await kube.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, name)
        if definition is None:
            raise KubeError(
                0,
                "MissingDefinitions",
                f"CustomResourceDefinition {name} is missing: apply the files in crds/",
            )


async def _lead(
    settings: OperatorSettings, kube: KubeApi, engine: Engine, health: Health, stop: asyncio.Event
) -> int:
    """Wait to lead, then work while leading."""
    await check_definitions(kube)
    loop = asyncio.get_running_loop()
    election = LeaderElection(kube, settings.own_namespace, settings.lease_name, settings.identity, loop.time)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        acquired = asyncio.create_task(election.acquire(), name="acquire")
        await _first(stopped, acquired)
        if not acquired.done():
            await _end(acquired)
            return 0
        acquired.result()
        health.leading = True
        held = asyncio.create_task(election.hold(), name="hold the lease")
        work = asyncio.create_task(_work(settings, engine), name="work")
        try:
            await _first(stopped, held, work)
            if work.done():
                work.result()  # raises what ended it; kopf also ends by the signal that it caught itself
            return EXIT_LEASE_LOST if held.done() else 0
        finally:
            # kopf replaced our signal handlers; a second signal must still end the process.
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(name)
            await _end(work)
            await _end(held)
            await election.release()
    finally:
        await _end(stopped)


async def _work(settings: OperatorSettings, engine: Engine) -> None:
    """Workers, watch and the watch on leaders together; when one ends, all end."""
    await engine.start(settings.namespaces)
    nodes = await engine.nodes.ask()
    workers = asyncio.create_task(engine.queue.run(), name="workers")
    leaders = asyncio.create_task(engine.leader_watch.run(), name="leader watch")
    watch = asyncio.create_task(
        kopf.operator(
            registry=handlers.registry(engine, nodes=nodes),
            settings=handlers.settings(),
            # kopf would ask for the user's name, and a container's user has none.
            identity=cast("Any", settings.identity),
            namespaces=settings.namespaces,
            clusterwide=not settings.namespaces,
        ),
        name="watch",
    )
    try:
        await _first(workers, watch, leaders)
        for task in (workers, watch, leaders):
            if task.done():
                task.result()
    finally:
        await _end(watch)
        await _end(leaders)
        await _end(workers)


async def _first(*tasks: asyncio.Task[object]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _end(task: asyncio.Task[object]) -> None:
    """Cancel and wait, for a bounded time; what it raises now no longer matters, but is said."""
    if task.done():
        return
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=STOP_SECONDS_MAX)
    if not done:
        logger.warning("did not stop in time", extra={"task": task.get_name()})
    elif not task.cancelled() and task.exception() is not None:
        logger.info(
            "ended with an error while stopping",
            extra={"task": task.get_name(), "why": str(task.exception())},
        )
