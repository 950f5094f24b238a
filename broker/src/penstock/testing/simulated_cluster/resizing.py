"""What the operator does when a simulated shard should have more or fewer brokers.

It starts brokers that are too few, tells the leader how many there should be, and stops those that are too many once they
are members to nobody who stays. Their volumes are kept, and found again when the shard grows anew.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from penstock.model.errors import PenstockError
from penstock.replication.features import FEATURE_LEVEL, RESIZED_LEVEL

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.broker import SimulatedBroker
    from penstock.testing.simulated_cluster.world import World

BROKERS_MAX = 5
SIZES = (1, 3, 5)
# In mode MasterSlave.
MASTER_SIZES = (1, 2, 3)
LOOK_SECONDS = 0.3


class Resizing:
    """`pods` brokers are kept running, `wanted` there should be."""

    def __init__(self, world: World, pods: int) -> None:
        self._world = world
        self.pods = self.wanted = pods

    @property
    def present(self) -> list[SimulatedBroker]:
        """The brokers that are kept running."""
        return self._world.brokers[: self.pods]

    @property
    def under_way(self) -> bool:
        """Whether not all that should happen has."""
        return self.wanted != self.pods or any(
            broker.up and broker.shard.leading and broker.member.resizing.replicas != self.wanted
            for broker in self.present
        )

    def want(self, replicas: int) -> None:
        """There should be so many."""
        self._world.say("there should be %d brokers, there are %d", replicas, self.pods)
        self.wanted = replicas

    def look(self) -> None:
        """Now and then: one step."""
        world = self._world
        world.agenda.after(LOOK_SECONDS, self.look)
        if not world.brokers[0].formed or any(broker.damaged for broker in world.brokers):
            return
        if self.wanted > self.pods:
            self._set_pods(self.wanted)
            for broker in self.present:
                world.start_again(broker)
        leading = [broker for broker in self.present if broker.up and broker.shard.leading]
        if len(leading) != 1:
            return
        leader = leading[0]
        if leader.shard.machines.members.level < RESIZED_LEVEL:
            self._restart_with_its_file()
            return
        if leader.member.resizing.replicas != self.wanted:
            self._tell(leader)
        elif self.wanted < self.pods and self._has_left(leader):
            self._set_pods(self.wanted)
            for broker in world.brokers[self.pods :]:
                if broker.up and not broker.stopping:
                    world.say("broker %d is not wanted any more", broker.ordinal)
                    broker.stop(partial(world.start_again, broker))

    def _restart_with_its_file(self) -> None:
        """A shard that cannot be told goes by its brokers' files."""
        for broker in self.present:
            if broker.up and not broker.stopping and broker.member.resizing.file_replicas != self.pods:
                self._world.restart_in_order(broker, 0.1)
                return

    def upgrade(self) -> None:
        """No broker stays with the release of the time before: the number could never change."""
        for broker in self.present:
            if broker.up and not broker.stopping and broker.feature_level < FEATURE_LEVEL:
                self._world.restart_in_order(broker, 0.1)

    def _set_pods(self, pods: int) -> None:
        """Configuration files say so from now on; brokers read them when they start."""
        self.pods = pods
        for broker in self._world.brokers:
            broker.replicas = pods
            broker.formed = True

    def _tell(self, leader: SimulatedBroker) -> None:
        assert leader.loop is not None
        with leader.loop.running():
            leader.loop.create_task(self._ask(leader, self.wanted))

    async def _ask(self, leader: SimulatedBroker, replicas: int) -> None:
        try:
            await leader.member.resizing.ask(replicas)
        except PenstockError as error:
            self._world.say("not resized: %s", error.sentence)

    def _has_left(self, leader: SimulatedBroker) -> bool:
        """Nobody who stays and can be asked counts another one, and most of them can."""
        stay = self._world.brokers[: self.wanted]
        asked = [broker for broker in stay if broker.up]
        members = {broker.member.own_member for broker in asked}
        counted = [set(broker.shard.machines.members.configuration.members) for broker in asked]
        return leader in asked and 2 * len(asked) > self.wanted and all(each <= members for each in counted)
