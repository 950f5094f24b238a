"""One node loss, from the first sign to the last: Events and status alone tell what happened, without a log.

The events are printed in the order in which a person would read them (`pytest -s`), and compared word for word.
"""

from __future__ import annotations

from typing import Any

from fake_kube import FakeKube
from harness import Harness, condition, is_ready, running
from penstock_operator.kube_errors import KubeError

CLUSTER = ("MessageCluster", "orders")
LOST = "orders-0-0"

STORY = """\
Ready: 3 of 3 brokers are ready
-- node w0 does not answer, and another broker was elected
Normal  LeaderElected   orders-0-1 leads shard 0 in epoch 2, after orders-0-0
Warning BrokersMissing  orders-0-1 leads, 2 of 3 brokers are ready: orders-0-0 is not ready: node w0 does not answer
Degraded: orders-0-0 is not ready: node w0 does not answer
-- Kubernetes wants the pod gone, and nobody is there to end it
Degraded: orders-0-0 is stopping, and node w0 does not answer
-- the machine is taken out of the Kubernetes cluster
Normal  BrokerReplaced  orders-0-0 is replaced because node w0 is gone
Degraded: orders-0-0 does not exist yet
-- the next pod waits for the volume that was there
Warning BrokerStuck     orders-0-0: no node takes the pod: volume node affinity conflict
Degraded: orders-0-0: no node takes the pod: volume node affinity conflict
Progressing: claim data-orders-0-0 is kept although its volume pv-0 was on node w0, which is gone: no node has \
taken orders-0-0 since 2026-11-21T08:05:00Z, and it is given up after 60 s; orders-0-0 is not ready: no node takes the pod: \
volume node affinity conflict
-- a minute later
Normal  VolumeReplaced  claim data-orders-0-0 is given up because its volume pv-0 was on node w0, which is gone: orders-0-0 \
begins anew and is sent everything
Normal  BrokerRestart   orders-0-0 is made anew because its claim was deleted: the next one has an empty volume
-- the broker runs elsewhere, on an empty volume
Degraded: orders-0-0 is catching up, 5000 bytes behind
-- it holds everything
Normal  BrokersReady    3 of 3 brokers are ready
Ready: 3 of 3 brokers are ready
"""


class Story:
    """A cluster with a node per broker, and what a person reads about it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.kube: Any = harness.kube
        self.now = "2026-11-21T08:00:00Z"
        harness.engine._cluster_reconciler._clock = lambda: self.now
        self.told = 0
        self.lines: list[str] = []

    async def begin(self, mode: str = "Raft", replicas: int = 3) -> None:
        for ordinal in range(replicas):
            name = f"orders-0-{ordinal}"
            self.harness.controllers.places[name] = f"w{ordinal}"
            await self.node(f"w{ordinal}")
        spec = {"mode": mode, "replicas": replicas, "storage": {"replaceLost": True}}
        await self.harness.create(*CLUSTER, spec)
        await self.harness.settle(*CLUSTER, is_ready)
        terms = [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["w0"]}]}
        ]
        volume = {
            "metadata": {"name": "pv-0"},
            "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}},
        }
        await self.kube.create({"apiVersion": "v1", "kind": "PersistentVolume", **volume})
        await self.kube.merge(
            "v1", "PersistentVolumeClaim", "shop", f"data-{LOST}", {"spec": {"volumeName": "pv-0"}}
        )
        self.new_events()
        await self.tell("Ready")

    async def node(self, name: str) -> None:
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        await self.kube.create({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})

    def new_events(self) -> list[dict[str, Any]]:
        events = [item for (kind, _, _), item in self.kube.objects.items() if kind == "Event"]
        new, self.told = events[self.told :], len(events)
        return new

    async def tell(self, *conditions: str) -> None:
        self.lines += [
            f"{item['type']:7} {item['reason']:15} {item['message']}" for item in self.new_events()
        ]
        found = await self.harness.get(*CLUSTER)
        self.lines += [f"{kind}: {condition(found, kind)['message']}" for kind in conditions]

    async def chapter(self, title: str, *conditions: str, turns: int = 1) -> None:
        self.lines.append(f"-- {title}")
        for _ in range(turns):
            await self.harness.controllers.step()
            await self.harness.turn(CLUSTER)
        await self.tell(*conditions)


async def test_status_and_events_of_one_node_loss_tell_the_story_without_a_log() -> None:
    async with running(FakeKube(), replicas=3) as harness:
        story = Story(harness)
        await story.begin()
        controllers, shard = harness.controllers, harness.shard
        broker = shard.brokers[LOST]
        port = broker.port

        await broker.stop()
        broker.in_sync, broker.lag_bytes = False, 900
        controllers.away = {LOST}
        story.kube.objects["Node", None, "w0"]["status"]["conditions"][0]["status"] = "Unknown"
        shard.lead("orders-0-1")
        await story.chapter("node w0 does not answer, and another broker was elected", "Degraded")

        story.kube.objects["Pod", "shop", LOST]["metadata"]["deletionTimestamp"] = story.now
        await story.chapter(
            "Kubernetes wants the pod gone, and nobody is there to end it", "Degraded", turns=3
        )

        await story.kube.delete("v1", "Node", None, "w0")
        await story.chapter("the machine is taken out of the Kubernetes cluster", "Degraded")

        controllers.unscheduled = {LOST: "2026-11-21T08:05:00Z"}
        story.now = "2026-11-21T08:05:10Z"
        await story.chapter(
            "the next pod waits for the volume that was there", "Degraded", "Progressing", turns=3
        )

        story.now = "2026-11-21T08:06:10Z"
        await story.chapter("a minute later")

        controllers.unscheduled, controllers.away = {}, set()
        controllers.places[LOST] = "w1"
        broker.role, broker.lag_bytes = "Learner", 5000
        await broker.start(port, "127.0.0.1")
        await story.chapter("the broker runs elsewhere, on an empty volume", "Degraded", turns=2)

        broker.role, broker.in_sync, broker.lag_bytes = "", True, 0
        await story.chapter("it holds everything", "Ready", turns=2)

        print("\n" + "\n".join(story.lines))
        assert "\n".join(story.lines) + "\n" == STORY
        assert await harness.kube.get("v1", "PersistentVolumeClaim", "shop", f"data-{LOST}") is not None


async def test_an_operator_that_may_not_look_at_nodes_says_so_once_and_does_without(caplog: Any) -> None:
    async with running(FakeKube(), replicas=3) as harness:
        story = Story(harness)
        kube = story.kube
        asked, look = [], kube.get

        async def forbidden(api_version: str, kind: str, namespace: str | None, name: str) -> Any:
            if kind == "Node":
                asked.append(name)
                raise KubeError(403, "Forbidden", "nodes is forbidden")
            return await look(api_version, kind, namespace, name)

        kube.get = forbidden
        await story.begin()
        kube.objects["Pod", "shop", LOST]["metadata"]["deletionTimestamp"] = story.now
        del kube.objects["Node", None, "w0"]
        await story.chapter("the node is gone", turns=3)
        assert ("delete", f"Pod/{LOST}") not in kube.calls
        assert len(asked) <= 3, "one look"
        said = [record for record in caplog.records if "nodes are not looked at" in record.message]
        assert len(said) == 1
