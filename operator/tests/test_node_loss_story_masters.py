"""A master's container and then a master's node are lost in mode MasterSlave: Events and status alone tell what happened, without
a log. The Raft story is in `test_node_loss_story`."""

from __future__ import annotations

from typing import Any

from fake_kube import FakeKube
from harness import Harness, condition, is_ready, running
from lease_world import EARLIER, HOLDER, manifest, record
from penstock.replication.master_lease import HolderIdentity, LeaseRecord
from penstock.runtime.lease_manifest import lease_to_patch
from test_node_loss_story import CLUSTER, Story

LEASE = ("Lease", "orders-0")
NEXT = "22222222-58a7-4f5e-9a51-0d6c2a1b7e10"
LOST = (
    "its log ended with entry 90, and orders-0-1 had written 97 when it last renewed, so 7 entries are lost"
)

STORY = """\
Ready: 2 of 2 brokers are ready
orders-0-0 Master, orders-0-1 Slave; Lease of epoch 1 held by orders-0-0, 2 in sync
-- the master's container is killed
Normal  LeaseReleased   Lease orders-0 of epoch 1 is released because the container of orders-0-0 that held it has \
ended with exit code 137
Warning NoLeader        orders-0-0 is not ready: it starts; shard 0 has no leader; orders-0-1: orders-0-0 holds the \
Lease of epoch 1
Degraded: shard 0 has no leader: orders-0-0 is not ready: it starts; orders-0-1: orders-0-0 holds the Lease of epoch 1
orders-0-0 Slave, orders-0-1 Slave; Lease of epoch 1 released, 2 in sync
-- the slave has taken over
Normal  LeaderElected   orders-0-1 leads shard 0 in epoch 2, after orders-0-0
Warning BrokersMissing  orders-0-1 leads, 1 of 2 brokers are ready: orders-0-0 is not ready: it starts
Degraded: orders-0-0 is not ready: it starts
orders-0-0 Slave, orders-0-1 Master; Lease of epoch 2 held by orders-0-1, 1 in sync
-- the former master is a slave that holds everything
Normal  BrokersReady    2 of 2 brokers are ready
Ready: 2 of 2 brokers are ready
orders-0-0 Slave, orders-0-1 Master; Lease of epoch 2 held by orders-0-1, 2 in sync
-- node w1 does not answer, and what runs there may run on
Warning NoLeader        orders-0-1 is not ready: node w1 does not answer; shard 0 has no leader; orders-0-0: \
orders-0-1 holds the Lease of epoch 2
Degraded: shard 0 has no leader: orders-0-1 is not ready: node w1 does not answer; orders-0-0: orders-0-1 holds the \
Lease of epoch 2
orders-0-0 Slave, orders-0-1 Slave; Lease of epoch 2 held by orders-0-1, 2 in sync
-- the Lease has run out, and the slave takes over
Normal  LeaderElected   orders-0-0 leads shard 0 in epoch 3, after orders-0-1
Warning BrokersMissing  orders-0-0 leads, 1 of 2 brokers are ready: orders-0-1 is not ready: node w1 does not answer
Degraded: orders-0-1 is not ready: node w1 does not answer
orders-0-0 Master, orders-0-1 Slave; Lease of epoch 3 held by orders-0-0, 1 in sync
-- the machine is taken out of the Kubernetes cluster
Normal  BrokerReplaced  orders-0-1 is replaced because node w1 is gone
Degraded: orders-0-1 does not exist yet
-- the broker runs elsewhere, and catches up
Degraded: orders-0-1 is catching up, 5000 bytes behind
-- it holds everything
Normal  BrokersReady    2 of 2 brokers are ready
Ready: 2 of 2 brokers are ready
orders-0-0 Master, orders-0-1 Slave; Lease of epoch 3 held by orders-0-0, 2 in sync
"""


class MasterStory(Story):
    """Two brokers, and the Lease that they write."""

    async def hold(
        self, name: str, epoch: int, in_sync: tuple[int, ...], holder: str, **changes: Any
    ) -> None:
        """The broker claims the Lease, or renews it with another set."""
        pod = await self.kube.get("v1", "Pod", "shop", name)
        member = int(name[-1]) + 1
        identity = HolderIdentity(
            member=member,
            ordinal=member - 1,
            pod_name=name,
            pod_uid=pod["metadata"]["uid"] if pod else "gone",
        )
        shard_uid = (await self.harness.get(*CLUSTER))["status"]["shards"][0]["uid"]
        fields = {"shard_uid": shard_uid, "holder": holder, "identity": identity, "epoch": epoch}
        written = record(**fields, in_sync=frozenset(in_sync), **changes)
        await self.write(written)

    async def write(self, written: LeaseRecord) -> None:
        api = ("coordination.k8s.io/v1", "Lease", "shop", "orders-0")
        live = await self.kube.get(*api)
        if live is None:
            await self.kube.create(manifest(written))
        else:
            await self.kube.merge(*api, lease_to_patch(written, live["metadata"]["resourceVersion"]))

    async def table(self) -> None:
        (row,) = (await self.harness.get(*CLUSTER))["status"]["shards"]
        members = ", ".join(f"{member['name']} {member['role']}" for member in row["members"])
        lease = row["lease"]
        held = f"held by {lease['holder']}, {lease['inSync']} in sync"
        if "released" in lease:
            held = f"released, {lease['inSync']} in sync"
        self.lines.append(f"{members}; Lease of epoch {lease['epoch']} {held}")

    def elections(self, **said: tuple[str, str]) -> None:
        """What brokers say of the election, by ordinal ("o1")."""
        self.harness.shard.elections = {
            f"orders-0-{key[1:]}": {"phase": "following", "reason": reason, "sentence": sentence}
            for key, (reason, sentence) in said.items()
        }


async def two_brokers(harness: Harness) -> MasterStory:
    story = MasterStory(harness)
    await story.begin("MasterSlave", 2)
    await story.hold("orders-0-0", 1, (1, 2), HOLDER)
    await harness.turn(CLUSTER)
    await story.table()
    return story


async def test_status_and_events_of_a_lost_master_tell_the_story_without_a_log() -> None:
    async with running(FakeKube(), replicas=2) as harness:
        story = await two_brokers(harness)
        controllers, shard = harness.controllers, harness.shard
        first = shard.brokers["orders-0-0"]

        first.not_ready = ["it starts"]
        controllers.endings["orders-0-0"] = {"exitCode": 137, "message": HOLDER}
        shard.lead("")
        story.elections(o1=("Holder", "orders-0-0 holds the Lease of epoch 1"))
        story.lines.append("-- the master's container is killed")
        await controllers.step()
        await harness.turn(LEASE, CLUSTER)
        await story.tell("Degraded")
        await story.table()

        await story.hold("orders-0-1", 2, (1, 2), EARLIER)
        shard.lead("orders-0-1")
        first.in_sync = False
        story.elections()
        await story.chapter("the slave has taken over", "Degraded")
        await story.hold("orders-0-1", 2, (2,), EARLIER, renewals=1)
        await harness.turn(CLUSTER)
        await story.table()

        first.not_ready, first.in_sync = [], True
        await story.hold("orders-0-1", 2, (1, 2), EARLIER, renewals=2)
        await story.chapter("the former master is a slave that holds everything", "Ready", turns=2)
        await story.table()

        second = shard.brokers["orders-0-1"]
        port = second.port
        await second.stop()
        second.in_sync = False
        controllers.away = {"orders-0-1"}
        story.kube.objects["Node", None, "w1"]["status"]["conditions"][0]["status"] = "Unknown"
        shard.lead("")
        story.elections(o0=("Holder", "orders-0-1 holds the Lease of epoch 2"))
        story.lines.append("-- node w1 does not answer, and what runs there may run on")
        await controllers.step()
        await harness.turn(LEASE, CLUSTER)
        await story.tell("Degraded")
        await story.table()

        story.elections()
        await story.hold("orders-0-0", 3, (1, 2), NEXT)
        shard.lead("orders-0-0")
        await story.hold("orders-0-0", 3, (1,), NEXT, renewals=1)
        await story.chapter("the Lease has run out, and the slave takes over", "Degraded")
        await story.table()

        story.kube.objects["Pod", "shop", "orders-0-1"]["metadata"]["deletionTimestamp"] = story.now
        await story.kube.delete("v1", "Node", None, "w1")
        await story.chapter("the machine is taken out of the Kubernetes cluster", "Degraded")
        controllers.places["orders-0-1"], controllers.away = "w0", set()
        second.role, second.lag_bytes = "Learner", 5000
        await second.start(port, "127.0.0.2")
        await story.chapter("the broker runs elsewhere, and catches up", "Degraded", turns=2)
        second.role, second.in_sync, second.lag_bytes = "", True, 0
        await story.hold("orders-0-0", 3, (1, 2), NEXT, renewals=2)
        await story.chapter("it holds everything", "Ready", turns=2)
        await story.table()

        print("\n" + "\n".join(story.lines))
        assert "\n".join(story.lines) + "\n" == STORY


async def test_what_may_be_lost_is_told_once_and_stays_in_status() -> None:
    async with running(FakeKube(), replicas=2) as harness:
        story = await two_brokers(harness)
        story.new_events()
        loss = {"penstock.io/lease-loss": f"2: {LOST}"}
        await story.hold("orders-0-1", 2, (2,), EARLIER)
        api = ("coordination.k8s.io/v1", "Lease", "shop", "orders-0")
        await story.kube.merge(*api, {"metadata": {"annotations": loss}})
        harness.shard.lead("orders-0-1")
        for _ in range(3):
            await harness.turn(CLUSTER)
        told = [(item["type"], item["reason"], item["message"]) for item in story.new_events()]
        assert told.count(("Warning", "UncleanRecovery", f"shard 0, since epoch 2: {LOST}")) == 1
        found = await harness.get(*CLUSTER)
        assert condition(found, "UncleanRecovery")["reason"] == "MessagesLost"
        assert found["status"]["shards"][0]["loss"] == {"epoch": 2, "message": LOST}


async def test_a_shard_whose_last_master_alone_holds_everything_waits_for_it_and_says_so() -> None:
    async with running(FakeKube(), replicas=2) as harness:
        story = await two_brokers(harness)
        story.new_events()
        await story.hold("orders-0-0", 1, (1,), HOLDER, renewals=1)
        sentence = "orders-0-0 was the last master, and this broker may not hold all that was acknowledged"
        harness.shard.lead("")
        await harness.shard.brokers["orders-0-0"].stop()
        harness.controllers.away = {"orders-0-0"}
        story.elections(o1=("NotInSync", sentence))
        await story.chapter("the master is gone for good", turns=3)
        found = await harness.get(*CLUSTER)
        message = f"shard 0 has no master: orders-0-1: {sentence}"
        degraded = condition(found, "Degraded")
        assert (degraded["reason"], degraded["message"]) == ("NobodyInSync", message)
        (event,) = [line for line in story.lines if "NobodyInSync" in line]
        assert message in event
        assert is_ready(found) is False
