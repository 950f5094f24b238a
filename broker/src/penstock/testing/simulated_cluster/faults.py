"""The faults that the design promises to survive, and no others.

| fault | promise (ARCHITECTURE.md, sections 2 and 5) |
| --- | --- |
| messages lost, late, repeated, reordered; connections that end, also under a snapshot; partitions, also in one direction | Raft's |
| a leader that is cut off and goes on alone while two others follow each other (a fork of the log) | Raft's |
| a process that ends, stands still, or is stopped in order | the same |
| the power goes, also in the middle of a write; unsynced writes are lost or torn (`flush: sync` alone) | a copy counts only once it is on disk; votes and epochs are always synced |
| a sync that fails, in one copy at a time | the broker exits and has forgotten: it comes back as another member |
| a full, slow or hung disk | refused with a clear error; another member leads |
| a flipped bit in a sealed segment of one copy | refused, never served or shipped |
| one volume at a time replaced by an empty one, while all other copies count | comes back as another member, is caught up before it counts |
| a wall clock that jumps | time enters only through the log |
| leadership transfers, and growth from one broker to three | Raft's |
| in mode MasterSlave: an API server that is away, slow, cut off from one broker, that loses answers and carries out writes late; a Lease that somebody removes or puts back from a backup | the Lease paragraph |
| another number of brokers: more, fewer, the volumes of before found again | who leaves does so before it is stopped |

In mode MasterSlave no sync fails and no bit flips: the in-sync set may be down to that one copy. A volume is lost only while
everybody is in sync, and not under `replication: async`: what only that one held is gone with it. Else not made, because nothing is promised: a power loss under `flush: async`, a majority of volumes lost, damage in more than
one copy, bytes that change on the wire below the checksums.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from penstock.testing.simulated_cluster.broker import CAPACITY_BYTES, SimulatedBroker
from penstock.testing.simulated_cluster.network import LATENCY_SECONDS_MAX, Disorder
from penstock.testing.simulated_cluster.resizing import MASTER_SIZES, SIZES
from penstock.testing.simulated_cluster.shapes import Shape

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.world import World

# The longest that one fault is left as it is, in seconds.
DURATION_SECONDS_MAX = 3.0
# A leader that goes on alone does so at least this long, most often until the others elect one, and writes this much.
FORK_SECONDS_MIN = 1.5
FORK_BATCHES_MAX = 60
LOOK_SECONDS = 0.05
# How long connections end under snapshots, in seconds.
SNAPSHOTS_CUT_SECONDS_MAX = 8.0
SEGMENT_HEADER_BYTES = 64
# Longer than a member may be silent before it leaves the in-sync set.
AMBUSH_SECONDS = 2.5
# How long a number of brokers stays, in seconds.
RESIZED_SECONDS = (0.2, 1.0, 3.0)


class Fault(msgspec.Struct, frozen=True):
    """One fault: when, which, and the seed of its details."""

    at: float
    kind: str
    number: int


def plan(seed: int, shape: Shape, begin: float) -> list[Fault]:
    """The faults of a life, in order."""
    end = begin + shape.faults_seconds
    chance = random.Random(f"faults {seed}")
    kinds = [kind for kind, (alone, _) in KINDS.items() if shape.brokers > 1 or alone]
    kinds.remove("resize")
    if shape.mode != "Raft":
        spared = NOT_UNDER_A_LEASE if shape.replication == "sync" else (*NOT_UNDER_A_LEASE, *NOT_WHEN_ASYNC)
        kinds = [kind for kind in kinds if kind not in spared] + list(MASTERS)
    if not shape.sync:
        kinds = [kind for kind in kinds if kind not in ("power", "power_in_write", "fsync")]
    # A few kinds each, so that some lives have much of one.
    kinds = chance.sample(kinds, min(len(kinds), chance.randint(2, 7)))
    if shape.allow_data_loss and "fork" not in kinds and shape.brokers > 1:
        kinds.append("fork")
    pause = chance.choice((0.3, 0.7, 1.2))
    faults = []
    at = begin + chance.random()
    while at < end:
        faults.append(Fault(round(at, 3), chance.choice(kinds), chance.randrange(1 << 30)))
        at += chance.expovariate(1 / pause)
    return sorted([*faults, *_resizes(seed, shape, begin, end)], key=lambda fault: fault.at)


def _resizes(seed: int, shape: Shape, begin: float, end: float) -> Iterator[Fault]:
    """Not among the other kinds: they follow each other, and each takes its time."""
    chance = random.Random(f"sizes {seed}")
    at = begin + chance.random()
    while shape.resizes and at < end:
        yield Fault(round(at, 3), "resize", chance.randrange(1 << 30))
        at += chance.choice(RESIZED_SECONDS)


def apply(world: World, fault: Fault) -> None:
    """Makes the fault, as far as it can be made now."""
    make = MASTERS[fault.kind] if fault.kind in MASTERS else KINDS[fault.kind][1]
    make(world, random.Random(fault.number))


def _one(world: World, chance: random.Random) -> SimulatedBroker | None:
    """A broker that is up, the leader half of the time."""
    up = [broker for broker in world.brokers if broker.up]
    leading = [broker for broker in up if broker.shard.leading]
    if leading and chance.random() < 0.5:
        return leading[0]
    return chance.choice(up) if up else None


def _seconds(chance: random.Random) -> float:
    return chance.random() ** 2 * DURATION_SECONDS_MAX


# --- processes -------------------------------------------------------------------------------------


def _kill(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        world.crash(broker, power=False, announced=chance.random() < 0.7, back_after=_seconds(chance))


def _power(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        world.crash(broker, power=True, announced=chance.random() < 0.3, back_after=_seconds(chance))


def _power_in_write(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        operations = chance.randint(0, 12)
        world.say(f"the power of broker {broker.ordinal} goes during its disk's operation {operations}")
        broker.disk.fail_after(operations)


def _all_power(world: World, chance: random.Random) -> None:
    for broker in world.brokers:
        if broker.up:
            world.crash(broker, power=world.shape.sync, announced=False, back_after=_seconds(chance))


def _pause(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None and broker.loop is not None:
        seconds = _seconds(chance) * 1.5
        world.say(f"broker {broker.ordinal} stands still for {seconds:.2f} s")
        broker.loop.pause(seconds)


def _stop(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        world.restart_in_order(broker, _seconds(chance))


def _transfer(world: World, chance: random.Random) -> None:
    for broker in world.brokers:
        if broker.up and broker.member.replica.is_leader:
            world.hand_over(broker)


def _clock(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        jump = chance.choice((-1, 1)) * chance.choice((500, 60_000, 10 * 24 * 3600 * 1000))
        world.say(f"the wall clock of broker {broker.ordinal} jumps by {jump} ms")
        broker.clock.offset_ms += jump


def _resize(world: World, chance: random.Random) -> None:
    world.resizing.want(chance.choice(SIZES if world.leases is None else MASTER_SIZES))


# --- the network -----------------------------------------------------------------------------------


def _isolate(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        others = [other.ordinal for other in world.brokers if other is not broker]
        inward = chance.random() < 0.8
        outward = not inward or chance.random() < 0.7
        pairs = [(broker.ordinal, other) for other in others if outward]
        pairs += [(other, broker.ordinal) for other in others if inward]
        world.block(pairs, _seconds(chance))


def _one_way(world: World, chance: random.Random) -> None:
    first, second = chance.sample(range(len(world.brokers)), 2)
    world.block([(first, second)], _seconds(chance))


def _cut(world: World, chance: random.Random) -> None:
    first, second = chance.sample(range(len(world.brokers)), 2)
    world.say(f"the connection from {first} to {second} ends")
    world.network.cut(first, second)


def _disorder(world: World, chance: random.Random) -> None:
    disorder = Disorder(chance.random() * 0.3, chance.random() * 0.3, chance.random() * 0.3)
    world.say(
        f"messages are lost {disorder.lost:.2f}, repeated {disorder.repeated:.2f}, late {disorder.late:.2f}"
    )
    world.network.disorder = disorder
    world.agenda.after(_seconds(chance) * 2, setattr, world.network, "disorder", Disorder())


def _latency(world: World, chance: random.Random) -> None:
    world.network.latency_seconds_max = chance.choice((0.03, 0.2, 0.6))
    world.say(f"the network takes up to {world.network.latency_seconds_max} s")
    world.agenda.after(_seconds(chance), setattr, world.network, "latency_seconds_max", LATENCY_SECONDS_MAX)


def _fork(world: World, chance: random.Random) -> None:
    """A leader is cut off and goes on alone for a while, and whoever leads next is gone before its log is as long."""
    leading = [broker for broker in world.brokers if broker.up and broker.shard.leading]
    if not leading:
        return
    alone, seconds = leading[0], FORK_SECONDS_MIN + chance.random() * DURATION_SECONDS_MAX
    others = [broker.ordinal for broker in world.brokers if broker is not alone]
    pairs = [(alone.ordinal, other) for other in others] + [(other, alone.ordinal) for other in others]
    world.block(pairs, seconds)
    if world.leases is not None:
        # Else nobody takes over.
        world.leases.cut_off(alone, seconds)
    world.clients.write_alone(alone, chance.randint(10, FORK_BATCHES_MAX))
    _depose(world, chance, alone, world.agenda.now + seconds)


def _depose(world: World, chance: random.Random, spared: SimulatedBroker, until: float) -> None:
    """Ends the leadership of somebody else than the one that is spared, as soon as there is one."""
    for broker in world.brokers:
        if broker is not spared and broker.up and broker.shard.leading:
            if chance.random() < 0.5:
                world.hand_over(broker)
            else:
                world.crash(broker, power=world.shape.sync, announced=True, back_after=0.1)
            return
    if world.agenda.now < until:
        world.agenda.after(LOOK_SECONDS, _depose, world, chance, spared, until)


# --- disks -----------------------------------------------------------------------------------------


def _fsync(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None and (len(world.brokers) == 1 or world.may_lose_volume(broker)):
        world.say(f"the disk of broker {broker.ordinal} fails to sync")
        broker.disk.sync_fails = True
        broker.damaged = len(world.brokers) > 1


def _full(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        disk = broker.disk
        disk.capacity_bytes -= max(disk.available_bytes() - chance.choice((0, 3000, 20_000)), 0)
        world.say(f"the disk of broker {broker.ordinal} has {disk.available_bytes()} bytes left")
        world.agenda.after(_seconds(chance), setattr, disk, "capacity_bytes", CAPACITY_BYTES)


def _slow(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        broker.pace.slowness = chance.choice((10.0, 50.0, 200.0))
        world.say(f"the disk of broker {broker.ordinal} is {broker.pace.slowness} times as slow")
        world.agenda.after(_seconds(chance), setattr, broker.pace, "slowness", 1.0)


def _hung(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None:
        # Long enough for what a master does about it.
        seconds = _seconds(chance) * (1 if world.leases is None else 2)
        world.say(f"the disk of broker {broker.ordinal} hangs for {seconds:.2f} s")
        broker.pace.hang(world.agenda.now, seconds)


def _flip(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is None or not world.may_lose_volume(broker):
        return
    log = broker.shard.log
    sealed = [segment for segment in log.segments if segment.index is None and segment.followed]
    if not sealed:
        return
    segment = chance.choice(sealed)
    position = chance.randrange(SEGMENT_HEADER_BYTES, segment.write_position)
    world.say(f"a bit of {segment.name} at {position} flips on broker {broker.ordinal}")
    broker.damaged = True
    broker.disk.corrupt(segment.name, position)


def _volume(world: World, chance: random.Random) -> None:
    broker = _one(world, chance)
    if broker is not None and world.may_lose_volume(broker):
        world.crash(broker, power=False, announced=chance.random() < 0.5, back_after=_seconds(chance))
        world.say(f"the volume of broker {broker.ordinal} is replaced by an empty one")
        broker.replace_volume()


def _lost_snapshot(world: World, chance: random.Random) -> None:
    world.say("connections end under snapshots")
    world.network.snapshots_cut_until = world.agenda.now + chance.random() * SNAPSHOTS_CUT_SECONDS_MAX
    _volume(world, chance)


# --- the Lease -------------------------------------------------------------------------------------


def _until_ms(world: World, chance: random.Random) -> float:
    return (world.agenda.now + 2 * _seconds(chance)) * 1000


def _lease_away(world: World, chance: random.Random) -> None:
    assert world.leases is not None
    world.leases.server.away_until = _until_ms(world, chance)
    world.say("the API server is away until %.0f ms", world.leases.server.away_until)


def _lease_slow(world: World, chance: random.Random) -> None:
    assert world.leases is not None
    world.leases.server.slow_until = _until_ms(world, chance)
    world.say("the API server is slow until %.0f ms", world.leases.server.slow_until)


def _lease_cut_off(world: World, chance: random.Random) -> None:
    assert world.leases is not None
    broker = _one(world, chance)
    if broker is not None:
        world.leases.server.cut_off[broker.ordinal] = _until_ms(world, chance)
        world.say("broker %d hears nothing of the API server", broker.ordinal)


def _lease_dying(world: World, chance: random.Random) -> None:
    assert world.leases is not None
    broker = _one(world, chance)
    if broker is not None:
        world.leases.server.dying[broker.ordinal] = (chance.randrange(4), _until_ms(world, chance))
        world.say("the connection of broker %d to the API server dies", broker.ordinal)


def _lease_ambush(world: World, chance: random.Random) -> None:
    """The next write that changes the in-sync set takes effect, and its master hears of nothing more; one is made soon."""
    assert world.leases is not None
    world.leases.ambush = True
    _part(world, chance)


def _part(world: World, chance: random.Random) -> None:
    """The master and another broker do not hear each other until that one has left the in-sync set."""
    leading = [broker for broker in world.brokers if broker.up and broker.shard.leading]
    others = [broker for broker in world.brokers if broker.up and not broker.shard.leading]
    if leading and others:
        pair = (leading[0].ordinal, chance.choice(others).ordinal)
        world.block([pair, pair[::-1]], AMBUSH_SECONDS)


def _lease_removed(world: World, chance: random.Random) -> None:
    assert world.leases is not None
    world.say("somebody removes the Lease")
    world.leases.server.remove()


def _lease_restored(world: World, chance: random.Random) -> None:
    """From a backup: at once, or when somebody whom it names has left the set."""
    if chance.random() < 0.5:
        _part(world, chance)
        world.agenda.after(AMBUSH_SECONDS, _restore, world, chance)
    else:
        _restore(world, chance)


def _restore(world: World, chance: random.Random) -> None:
    assert world.leases is not None
    older = world.leases.server.older(world.leases.known_epoch)
    if older and not world.faults_are_over:
        record = chance.choice(older)
        world.say("somebody restores the Lease of epoch %d", record.epoch)
        world.leases.server.put_back(record)


# --- the list --------------------------------------------------------------------------------------

# Whether a broker that is alone can bear it, and how it is made.
KINDS: dict[str, tuple[bool, Callable[[World, random.Random], None]]] = {
    "kill": (True, _kill),
    "power": (True, _power),
    "power_in_write": (True, _power_in_write),
    "all_down": (True, _all_power),
    "pause": (True, _pause),
    "stop": (True, _stop),
    "transfer": (False, _transfer),
    "resize": (True, _resize),
    "clock": (True, _clock),
    "isolate": (False, _isolate),
    "one_way": (False, _one_way),
    "cut": (False, _cut),
    "disorder": (False, _disorder),
    "latency": (False, _latency),
    "fork": (False, _fork),
    "fsync": (True, _fsync),
    "full": (True, _full),
    "slow": (True, _slow),
    "hung": (True, _hung),
    "flip": (False, _flip),
    "volume": (False, _volume),
    "lost_snapshot": (False, _lost_snapshot),
}
# Of mode MasterSlave alone; and what it is spared.
MASTERS: dict[str, Callable[[World, random.Random], None]] = {
    "lease_away": _lease_away,
    "lease_slow": _lease_slow,
    "lease_cut_off": _lease_cut_off,
    "lease_dying": _lease_dying,
    "lease_ambush": _lease_ambush,
    "lease_removed": _lease_removed,
    "lease_restored": _lease_restored,
}
NOT_UNDER_A_LEASE = ("fsync", "flip")
NOT_WHEN_ASYNC = ("volume", "lost_snapshot")
