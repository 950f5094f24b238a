"""A MessageCluster as processes on this machine: its brokers, kept as its spec says.

What to restart, and when, is decided by the same `plan` as on Kubernetes; here are processes instead of pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.api.names import ADMIN_LISTENER, ANNOTATION_RESTART
from penstock_operator.broker_admin import HttpBrokerAdmin
from penstock_operator.desired import names
from penstock_operator.desired.broker_config import FORMED, copies_to_keep
from penstock_operator.leader_admin import LeaderAdmin, shard_reports
from penstock_operator.local import lease_file
from penstock_operator.local.broker_process import BrokerProcess
from penstock_operator.local.shard_files import SHARD, ShardFiles
from penstock_operator.plan.actions import ResizeShard
from penstock_operator.plan.roll import GiveUpLeadership, Hold, Restart, RollBroker, next_step
from penstock_operator.plan.scale import as_built, have_left, scale_shard
from penstock_operator.plan.settings import SettingsPlan, plan_settings
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError, ClusterState
from penstock_operator.snapshot.broker import ClusterReport, parse_settings
from penstock_operator.snapshot.shard import ShardView, shard_view

Say = Callable[[str], None]
Launch = Callable[[str, Path, Say, Callable[[], None], Callable[[str], None]], BrokerProcess]


class LocalCluster:
    """One cluster. `say` prints a line for the user; `changed` is called when addresses or processes did."""

    def __init__(
        self,
        cluster: MessageCluster,
        folder: Path,
        session: aiohttp.ClientSession,
        say: Say,
        changed: Callable[[], None],
        launch: Launch = BrokerProcess,
    ) -> None:
        self.name = cluster.metadata.name
        self.cluster = cluster
        self.brokers: dict[str, BrokerProcess] = {}
        self.view = ShardView(id=SHARD)
        self._say: Say = lambda line: say(f"cluster {self.name}: {line}")
        self._files = ShardFiles(folder / self.name, self._say)
        self._launch: Callable[[str], BrokerProcess] = lambda name: launch(
            name, folder / self.name, say, changed, self._release_lease
        )
        self._session = session
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()  # of brokers that have left
        self._tokens: dict[str, str] = {}  # restart token that each broker was started with
        self._said: dict[str, str] = {}  # subject -> sentence that was said last

    def start(self) -> None:
        """Write the configurations and start the brokers."""
        self._accept(self.cluster, max(self.cluster.spec.replicas, self._files.memory.formed or 0))
        if self._files.memory.formed is not None and not any(map(self._files.has_data, self.brokers)):
            folders = ", ".join(str(self._files.broker_folder(name)) for name in self.brokers)
            self._say(
                f"its data is lost and nothing is made anew in silence: bring {folders} back, or remove"
                f" {self._files.folder} to begin with an empty shard"
            )
        self._files.write(self.cluster)
        self._start_tasks()

    async def stop(self) -> None:
        """Stop the followers, then the leader, and wait: so nobody is elected on the way."""
        followers = [task for name, task in self._tasks.items() if name != self.view.leader]
        leader = [task for name, task in self._tasks.items() if name == self.view.leader]
        for tasks in filter(None, (followers, leader)):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._ending:
            await asyncio.wait(self._ending)

    def crashed(self) -> BaseException | None:
        """What ended a broker's supervision, which is a mistake of ours."""
        ended = [task for task in self._tasks.values() if task.done() and not task.cancelled()]
        return next((error for task in ended if (error := task.exception()) is not None), None)

    @property
    def admins(self) -> dict[str, HttpBrokerAdmin]:
        """The admin APIs of the brokers that are up."""
        return {
            name: HttpBrokerAdmin(self._session, f"http://{broker.listeners[ADMIN_LISTENER]}")
            for name, broker in self.brokers.items()
            if ADMIN_LISTENER in broker.listeners
        }

    @property
    def spokesman(self) -> BrokerProcess:
        """The leader when it is up, else the first broker that is, else the first one."""
        leader = self.brokers.get(self.view.leader or "")
        first_up = next((broker for broker in self.brokers.values() if broker.listeners), None)
        return (
            leader
            if leader is not None and leader.listeners
            else first_up or next(iter(self.brokers.values()))
        )

    @property
    def bootstrap(self) -> str | None:
        """Where clients start: the first listener of each broker that is up."""
        listener = self.cluster.spec.listeners[0].name
        return (
            ",".join(b.listeners[listener] for b in self.brokers.values() if listener in b.listeners) or None
        )

    @property
    def is_up(self) -> bool:
        """Whether every broker is up and one of them leads."""
        return self.view.leader in self.brokers and all(b.listeners for b in self.brokers.values())

    async def state(self) -> ClusterState:
        """See `ports.Clusters`."""
        admins = self.admins
        if not admins:
            return ClusterState(state="NotReady", message=f"no broker of {self.name} is up yet")
        troubles = await asyncio.gather(*map(_trouble, admins.values()))
        if None not in troubles:
            message = "; ".join(f"{name}: {why}" for name, why in zip(admins, troubles, strict=True))
            return ClusterState(state="NotReady", message=message)
        admin = LeaderAdmin(admins, self.view.leader, SHARD)
        return ClusterState(state="Ready", message="ready", admin=admin)

    async def reconcile(self, cluster: MessageCluster) -> bool:
        """Bring the brokers to the spec; True when nothing is left to do."""
        admins = self.admins
        reports = await shard_reports(admins)
        self._see(shard_view(SHARD, reports))
        self._accept(cluster, self._brokers_to_run(cluster, reports))
        self._remember()
        files = self._files.write(self.cluster)
        self._start_tasks()
        differences = await self._differences(admins)
        await self._patch(admins, differences)
        brokers = [
            await self._roll_broker(broker, files[name], admins.get(name), differences.get(name))
            for name, broker in self.brokers.items()
        ]
        step = scale_shard(self.view, cluster.spec.replicas, len(self.brokers), self._copies)
        self._say_once("scaling", step.under_way or step.refused)
        if step.action is not None:
            await self._resize(step.action, admins)
            return False
        # A step that waits keeps nothing else from being done.
        rolled = await self._roll(brokers, admins)
        return not rolled and step.under_way is None and self.is_up

    def _brokers_to_run(self, cluster: MessageCluster, reports: dict[str, ClusterReport]) -> int:
        """How many for now: those that are too many run until they are members no more."""
        wanted = cluster.spec.replicas
        stay = [name for _, _, name in names.pod_names(cluster)]
        return wanted if have_left(self.view, reports, stay) else max(wanted, len(self.brokers))

    def _accept(self, cluster: MessageCluster, replicas: int) -> None:
        """Take the spec over, with so many brokers for now."""
        self.cluster = as_built(cluster, replicas)
        present = [name for _, _, name in names.pod_names(self.cluster)]
        for name in present:
            if name not in self.brokers:
                self.brokers[name] = self._launch(name)
                self._tokens[name] = self._token
        for name in [name for name in self.brokers if name not in present]:
            self._say(f"{name} has left and is stopped; its data stays in {self._files.broker_folder(name)}")
            self._let_end(name)

    def _let_end(self, name: str) -> None:
        del self.brokers[name], self._tokens[name]
        task = self._tasks.pop(name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _resize(self, action: ResizeShard, admins: dict[str, HttpBrokerAdmin]) -> None:
        """Tell the leader how many brokers there should be."""
        self._say_once("resize", action.why)
        try:
            await admins[action.pod].resize(action.replicas)
        except (AdminError, AdminUnreachableError) as error:
            self._say_once("resize", f"{action.pod} does not change the number of brokers: {error}")

    def _start_tasks(self) -> None:
        for name, broker in self.brokers.items():
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(broker.run(), name=f"broker {name}")

    def _see(self, view: ShardView) -> None:
        """Take in what the brokers say."""
        if view.leader is not None and view.leader != self.view.leader and len(self.brokers) > 1:
            self._say(f"{view.leader} leads in epoch {view.epoch}")
        self.view = view

    def _remember(self) -> None:
        """Keep what must not be forgotten of it."""
        up = [name for name, broker in self.brokers.items() if broker.listeners]
        self._files.learn(self.view, len(self.brokers), up)

    async def _differences(self, admins: dict[str, HttpBrokerAdmin]) -> dict[str, SettingsPlan]:
        """Per broker that answers, how its settings differ from the spec's."""
        wanted = self._files.settings(self.cluster)
        found = {}
        for name, admin in admins.items():
            try:
                have = parse_settings(await admin.settings())
                found[name] = plan_settings(wanted, have, resizable=self.view.resizable)
            except (AdminError, AdminUnreachableError, ValueError):
                continue  # it is going down or not up yet; its next change wakes us
        unknown = sorted({setting for difference in found.values() for setting in difference.unknown})
        sentence = f"the broker does not know {', '.join(unknown)}: correct it in spec.config"
        self._say_once("unknown", sentence if unknown else None)
        return found

    async def _patch(self, admins: dict[str, HttpBrokerAdmin], differences: dict[str, SettingsPlan]) -> None:
        """Change dynamic settings at the leader; the others learn of them from the log."""
        leader = self.view.leader
        if leader not in differences or not differences[leader].patch:
            return
        patch = differences[leader].patch
        self._say_once("patch", f"{', '.join(patch)} changes while the broker runs")
        try:
            await admins[leader].patch_settings(patch)
        except AdminUnreachableError:
            return  # its next change wakes us
        except AdminError as error:
            if not error.is_not_leader:
                sentence = f"the broker refuses its settings: {error.detail}: correct it in spec.config"
                self._say_once("refused", sentence)
            return
        self._say_once("patch", None)
        self._say_once("refused", None)

    async def _roll_broker(
        self,
        broker: BrokerProcess,
        content: dict[str, Any],
        admin: HttpBrokerAdmin | None,
        difference: SettingsPlan | None,
    ) -> RollBroker:
        reason = self._restart_reason(broker, content, difference)
        return RollBroker(
            name=broker.name,
            reason=f"{broker.name} is restarted because {reason}" if reason else None,
            well=admin is not None and await _trouble(admin) is None,
            idle=broker.pid is None,
        )

    def _restart_reason(
        self, broker: BrokerProcess, content: dict[str, Any], difference: SettingsPlan | None
    ) -> str | None:
        if not broker.started_from:
            return None  # its first start is about to come
        started = yaml.safe_load(broker.started_from)
        stale = {**started, FORMED: None} != {**content, FORMED: None}
        if broker.pid is None:
            return "it ended and its configuration changed since" if stale else None
        if started["listeners"] != content["listeners"] or self._tokens[broker.name] != self._token:
            return "its listeners or its restart token changed"
        if stale and difference is not None and difference.restart:
            return f"{', '.join(difference.restart)} cannot change while it runs"
        return None

    async def _roll(self, brokers: list[RollBroker], admins: dict[str, HttpBrokerAdmin]) -> bool:
        """Do the next step of a rolling restart; True when there is one."""
        step = next_step(self.view, brokers, self._copies)
        if step is None:
            self._say_once("roll", None)
            return False
        self._say_once("roll", step.why)
        match step:
            case Restart(name=name):
                self._tokens[name] = self._token
                broker = self.brokers[name]
                if broker.pid is None:
                    broker.retry_now()
                else:
                    broker.restart()
            case GiveUpLeadership(leader=leader, to=heir):
                try:
                    await admins[leader].hand_over(heir)
                except (AdminError, AdminUnreachableError) as error:
                    self._say_once("hand-over", f"{leader} does not hand over: {error}")
            case Hold():
                pass
        return True

    def _release_lease(self, process: str) -> None:
        """A broker's process has ended: if it was master, nobody need wait until its Lease runs out."""
        try:
            if lease_file.release(self._files.lease, process, "its process was seen to end"):
                self._say("the master's process ended, and its Lease is free")
        except OSError as error:
            self._say(f"the Lease in {self._files.lease} has to run out, it cannot be written: {error}")

    def _say_once(self, subject: str, sentence: str | None) -> None:
        """Say a sentence when it is another one than last; None: there is nothing to say any more."""
        if sentence != self._said.get(subject):
            self._said[subject] = sentence or ""
            if sentence:
                self._say(sentence)

    @property
    def _copies(self) -> int | None:
        return copies_to_keep(self.cluster.spec, self._files.memory.formed or 0)

    @property
    def _token(self) -> str:
        return self.cluster.metadata.annotations.get(ANNOTATION_RESTART, "")


async def _trouble(admin: HttpBrokerAdmin) -> str | None:
    """Why a broker is not ready; None when it is."""
    try:
        return "; ".join(await admin.not_ready()) or None
    except AdminUnreachableError as error:
        return str(error)


def decode_cluster(resource: dict[str, Any]) -> MessageCluster:
    """The typed resource; it was checked when it was read."""
    return msgspec.convert(resource, MessageCluster)
