"""What single masters do, on brokers on which nothing else happens: stopping, joining, handing over, sets that are too small."""

from __future__ import annotations

import msgspec
import pytest

from penstock.model.errors import ErrorCode
from penstock.replication.features import RESIZED_LEVEL
from penstock.replication.master_election import MasterElection
from penstock.runtime.mastership import Mastership
from penstock.service.api import ConfigOperation
from penstock.testing.simulated_cluster.broker import CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.leases import HUNG_SECONDS_MAX, Leases
from simulation_scene import SHAPE, Scene

MASTERS = msgspec.structs.replace(SHAPE, brokers=2, mode="MasterSlave")


@pytest.fixture
def scene() -> Scene:
    scene = Scene(0, MASTERS)
    scene.until(lambda: len(leases(scene).in_sync) == 2 and scene.clients.keys)
    return scene


def both(scene: Scene) -> tuple[SimulatedBroker, SimulatedBroker]:
    """The master and the other one."""
    master = scene.leader
    assert master is not None
    (slave,) = [broker for broker in scene.brokers if broker is not master]
    return master, slave


def mastership(broker: SimulatedBroker) -> Mastership:
    found = broker.member.mastership
    assert found is not None
    return found


def leases(scene: Scene) -> Leases:
    assert scene.leases is not None
    return scene.leases


def election_of(broker: SimulatedBroker) -> MasterElection:
    assert broker.elector is not None
    return broker.elector._election


def replace_master(scene: Scene, master: SimulatedBroker) -> None:
    """It hears neither of the other one nor of the API server, until its Lease is over."""
    cut_off(scene)
    leases(scene).cut_off(master, 5)


def cut_off(scene: Scene) -> None:
    """Nothing gets from one to the other."""
    scene.network.block(0, 1)
    scene.network.block(1, 0)


def test_a_master_that_is_told_to_stop_refuses_at_once_what_waits_and_what_comes(scene: Scene) -> None:
    master, _ = both(scene)
    cut_off(scene)
    answers = scene.produce(master, 2)
    scene.pass_time(0.2)
    assert answers == []
    assert master.loop is not None
    with master.loop.running():
        mastership(master).stop_acknowledging("a test says so")
    later = scene.produce(master, 1)
    scene.until(lambda: len(answers) == 2 and later)
    assert {*answers, *later} == {ErrorCode.NOT_LEADER_OR_FOLLOWER}
    assert not master.member.replica.is_leader
    assert master.shard.machines.producers.staged_count == 0


def test_a_master_whose_lease_may_be_over_acknowledges_nothing(scene: Scene) -> None:
    """What it waited for comes, and it must not tell anybody any more: another one may lead."""
    master, _ = both(scene)
    answers = scene.produce(master, 1)
    tenure = election_of(master)._tenure
    assert tenure is not None
    tenure._expires_ms = 0
    scene.until(lambda: answers, step=0.0005)
    assert answers == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert not master.shard.leading


@pytest.mark.parametrize("sync", [True, False])
def test_a_master_whose_disk_hangs_stops_though_it_is_written_to(sync: bool) -> None:
    """Without a sync for each write the page cache takes more all the time, and nothing bounds what a power loss takes."""
    scene = Scene(0, msgspec.structs.replace(MASTERS, sync=sync, segment_bytes=65536))
    scene.until(lambda: len(leases(scene).in_sync) == 2 and scene.clients.keys)
    master, slave = both(scene)
    master.pace.hang(scene.agenda.now, 10)
    hung_until = scene.agenda.now + HUNG_SECONDS_MAX
    while not slave.shard.leading:
        assert scene.agenda.now < hung_until
        if master.up and master.shard.leading:
            scene.produce(master, 1)
        scene.pass_time(0.05)


@pytest.mark.parametrize("announced", [True, False])
def test_a_slave_that_is_gone_leaves_the_set_and_comes_back_into_it(scene: Scene, announced: bool) -> None:
    """Nothing is answered before the Lease says that it is out."""
    master, slave = both(scene)
    scene.crash(slave, power=False, announced=announced, back_after=1000)
    answers = scene.produce(master, 1)
    scene.until(lambda: answers or len(leases(scene).in_sync) == 1, step=0.0005)
    assert answers == [], "the set still named both"
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NONE]
    assert leases(scene).in_sync == {master.member.own_member}
    assert master.shard.in_sync_count == 1
    scene._start(slave)
    scene.until(lambda: len(leases(scene).in_sync) == 2)
    scene.until(lambda: master.shard.in_sync_count == 2)


def test_a_slave_joins_while_the_master_writes_all_the_time(scene: Scene) -> None:
    """It is always a little behind, until commits wait for it."""
    master, slave = both(scene)
    scene.crash(slave, power=False, announced=True, back_after=1000)
    scene.until(lambda: len(leases(scene).in_sync) == 1)
    scene._start(slave)
    for _ in range(2000):
        scene.produce(master, 1)
        scene.pass_time(0.002)
        if len(leases(scene).in_sync) == 2:
            break
    assert len(leases(scene).in_sync) == 2


def test_leadership_is_handed_over_whole(scene: Scene) -> None:
    master, slave = both(scene)
    answers = scene.produce(master, 5)
    scene.until(lambda: len(answers) == 5)
    epoch = master.member.replica.core.epoch
    offers: list[bool] = []
    slave.member.replica.on_offered = lambda: offers.append(slave.shard.leading)
    scene.hand_over(master)
    scene.until(lambda: slave.shard.leading, step=0.001)
    assert offers == [False], "the slave was not told to look at the Lease"
    assert slave.member.replica.core.epoch == epoch + 1
    more = scene.produce(slave, 1)
    scene.until(lambda: more)
    assert more == [ErrorCode.NONE]


def test_a_hand_over_to_one_that_is_not_level_in_time_comes_to_nothing(scene: Scene) -> None:
    master, slave = both(scene)
    cut_off(scene)
    scene.produce(master, 1)
    scene.pass_time(0.05)
    assert master.loop is not None
    with master.loop.running():
        assert mastership(master).hand_over(slave.member.own_member) is None
    assert not master.shard.leading
    scene.network.heal()
    scene.network.block(slave.ordinal, master.ordinal)
    scene.until(lambda: master.shard.leading)
    assert master.member.replica.core.transferee == 0


def test_where_too_few_copies_are_in_sync_writes_are_refused(scene: Scene) -> None:
    """What waits is told that it may be committed with fewer copies; what comes is not taken."""
    master, slave = both(scene)
    cut_off(scene)
    answers = scene.produce(master, 1)
    scene.pass_time(0.05)
    sets = (frozenset({master.member.own_member, slave.member.own_member}),)
    assert master.loop is not None
    with master.loop.running():
        mastership(master).sets_changed(sets, "fewer copies are in sync than minInSync asks for")
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]
    answers = scene.produce(master, 1)
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NOT_ENOUGH_REPLICAS]
    with master.loop.running():
        mastership(master).sets_changed(sets)
    scene.network.heal()
    scene.until(lambda: master.shard.in_sync_count == 2)
    answers = scene.produce(master, 1)
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NONE]


def test_an_older_epoch_is_not_taken_and_a_newer_one_ends_a_leadership(scene: Scene) -> None:
    master, slave = both(scene)
    epoch = master.member.replica.core.epoch
    assert slave.loop is not None
    stored: list[int] = []
    with slave.loop.running():
        assert mastership(slave).persist_epoch(epoch, lambda: stored.append(epoch)) is not None
        assert mastership(slave).persist_epoch(epoch + 5, lambda: stored.append(epoch + 5)) is None
    scene.until(lambda: stored)
    assert stored == [epoch + 5]
    meta = slave.folder.load_meta()
    assert meta is not None
    assert meta.epoch == epoch + 5
    scene.until(lambda: not master.member.replica.is_leader)


def test_what_a_former_master_alone_had_acknowledged_is_set_aside_and_told() -> None:
    """It comes back, cuts what the new one lacks, and follows; or is sent everything, where its state has that already."""
    scene = Scene(0, msgspec.structs.replace(MASTERS, replication="async", allow_data_loss=True, max_lag=100))
    scene.until(lambda: len(leases(scene).in_sync) == 2 and scene.clients.keys)
    master, slave = both(scene)
    replace_master(scene, master)
    answers = scene.produce(master, 3)
    scene.until(lambda: len(answers) == 3)
    assert set(answers) == {ErrorCode.NONE}
    scene.until(lambda: slave.shard.leading)
    assert slave.elector is not None
    assert "whatever it acknowledged after that" in slave.elector.status().loss
    scene.network.heal()
    scene.until(lambda: master.up and master.member.forked_tails.reports)
    (report,) = master.member.forked_tails.reports
    assert report.exact
    assert report.messages == 3
    assert list(report.partitions) == scene.clients.keys
    assert report.kept_entries == report.entries
    assert master.shard.counters.forked_messages == 3
    scene.until(lambda: len(leases(scene).in_sync) == 2)
    answers = scene.produce(slave, 1)
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NONE]
    scene.until(lambda: master.shard.commit_index == slave.shard.commit_index)
    scene.crash(master, power=False, announced=True, back_after=0.1)
    scene.until(lambda: master.up)
    assert master.member.forked_tails.reports == [report], "a later start still tells"


def test_what_was_never_acknowledged_is_cut_without_ado(scene: Scene) -> None:
    """Under `sync` it can be no promise that goes."""
    master, slave = both(scene)
    replace_master(scene, master)
    scene.produce(master, 3)
    scene.until(lambda: slave.shard.leading)
    scene.network.heal()
    scene.until(lambda: master.up and master.shard.commit_index == slave.shard.commit_index)
    assert master.member.forked_tails.reports == []
    assert not [name for name in master.disk.names() if "forked" in name]


@pytest.mark.parametrize("replication", ["sync", "async"])
def test_a_member_that_is_to_leave_leaves_the_in_sync_set_first(replication: str) -> None:
    """It follows closely all the time, and so would never leave the set by itself."""
    scene = Scene(0, msgspec.structs.replace(MASTERS, brokers=3, replication=replication))
    scene.until(lambda: len(leases(scene).in_sync) == 3 and scene.clients.keys)
    for broker in scene.brokers:
        # With the newest release, all of them.
        scene.restart_in_order(broker, 0.1)
        scene.until(
            lambda broker=broker: broker.up and not broker.stopping and len(leases(scene).in_sync) == 3
        )
    scene.until(lambda: scene.leader and scene.leader.shard.machines.members.level >= RESIZED_LEVEL)
    master = scene.leader
    assert master is not None
    if master.ordinal == 2:
        scene.hand_over(master)
        scene.until(lambda: scene.leader is not None and scene.leader.ordinal != 2)
        master = scene.leader
        assert master is not None
    assert master.loop is not None
    scene.until(lambda: len(leases(scene).in_sync) == 3)
    members = {broker.ordinal: broker.member.own_member for broker in scene.brokers}
    with master.loop.running():
        master.loop.create_task(master.member.resizing.ask(2))
    configured = master.shard.machines.members
    scene.until(lambda: members[2] not in leases(scene).in_sync)
    assert members[2] in configured.configuration.voters, "it is one until the Lease does not name it"
    scene.until(lambda: members[2] not in configured.configuration.members)
    scene.pass_time(1)
    assert leases(scene).in_sync == {members[0], members[1]}


def test_what_waits_while_the_set_shrinks_below_its_topic_s_minimum_is_told_so(scene: Scene) -> None:
    """It is committed by fewer copies than its topic asks for."""
    master, slave = both(scene)
    assert master.loop is not None
    with master.loop.running():
        change = [ConfigOperation("min.insync.replicas", "set", "2")]
        asked = master.loop.create_task(master.topics.alter_topic_config(CONTEXT, "t", change))
    scene.until(asked.done)
    scene.crash(slave, power=False, announced=True, back_after=1000)
    answers = scene.produce(master, 1)
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]
    assert leases(scene).in_sync == {master.member.own_member}
    answers = scene.produce(master, 1)
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NOT_ENOUGH_REPLICAS]


def test_whoever_comes_back_without_its_volume_says_that_nobody_may_take_over(scene: Scene) -> None:
    master, slave = both(scene)
    scene.crash(slave, power=False, announced=True, back_after=1000)
    scene.until(lambda: len(leases(scene).in_sync) == 1)
    scene.crash(master, power=False, announced=True, back_after=1000)
    former = master.member.own_member
    master.replace_volume()
    for broker in scene.brokers:
        broker.formed = True
        scene._start(broker)
    scene.pass_time(5)
    sentence = (
        f"broker-{master.ordinal} alone held all that was acknowledged, on the volume that it had as member {former}:"
        " nobody takes over before that volume is back"
    )
    for broker in scene.brokers:
        assert broker.elector is not None
        status = broker.elector.status()
        assert (status.phase, status.reason, status.sentence) == ("following", "NotInSync", sentence)
