"""What the life of a simulated cluster is like, by its seed: its size, its mode, its flush policy, its clients."""

from __future__ import annotations

import random

import msgspec

# Of short lives there are more in the same time, long ones get further.
FAULTS_SECONDS = (3.5, 5.0, 6.5, 9.5)
PAUSE_SECONDS = (0.1, 0.2, 0.3)
# How many lives have a number of brokers that changes.
RESIZED_LIVES = 0.2
# How many lives of masters begin with one broker.
GROWING_LIVES = 0.1
# How many lives under `replication: async` may lose something, and how many entries a new master may lack there.
LOSSY_LIVES = 0.6
LAGS_MAX = (5, 50, 10_000)


class Shape(msgspec.Struct, frozen=True):
    """What a life is like: its size, its flush policy, its clients."""

    brokers: int
    sync: bool
    grows: bool
    producers: int
    idempotent: int
    partitions: int
    trims: bool
    segment_bytes: int
    power_cycle_at_end: bool
    # For how long there are faults, and at most how long a client waits before its next request, in seconds.
    faults_seconds: float = 9.5
    pause_seconds: float = 0.15
    mode: str = "Raft"
    replication: str = "sync"
    # In mode MasterSlave: the failover policy, and whether somebody releases the Leases of processes that ended.
    min_in_sync: int = 1
    max_lag: int = 0
    allow_data_loss: bool = False
    operator: bool = False
    # Whether there should be more brokers, or fewer, now and then.
    resizes: bool = False
    # Members of a queue group over the topic, beside everybody else.
    queue_members: int = 0


def shape_of(seed: int) -> Shape:
    """The life that a seed stands for."""
    chance = random.Random(f"shape {seed}")
    brokers = chance.choice((1, 3, 3, 3, 3, 3, 3, 3, 3, 5))
    producers = chance.randint(2, 3)
    sync = chance.random() < 0.75
    grows = brokers == 3 and chance.random() < 0.15
    return Shape(
        brokers=brokers,
        sync=sync,
        grows=grows,
        resizes=not grows and random.Random(f"resizes {seed}").random() < RESIZED_LIVES,
        producers=producers,
        idempotent=chance.randint(1, producers),
        partitions=chance.randint(1, 3),
        trims=chance.random() < 0.5,
        segment_bytes=chance.choice((4096, 8192)),
        power_cycle_at_end=sync and chance.random() < 0.3,
        faults_seconds=chance.choice(FAULTS_SECONDS),
        pause_seconds=chance.choice(PAUSE_SECONDS),
    )


def master_shape_of(seed: int) -> Shape:
    """The same in mode MasterSlave."""
    chance = random.Random(f"masters {seed}")
    grows = chance.random() < GROWING_LIVES
    resizes = not grows and chance.random() < RESIZED_LIVES
    return msgspec.structs.replace(
        shape_of(seed),
        brokers=chance.choice((2, 2, 2, 3)),
        grows=grows,
        resizes=resizes,
        mode="MasterSlave",
        operator=chance.random() < 0.5,
        # One broker alone has to serve where there may be but one.
        min_in_sync=1 if grows or resizes else chance.choice((1, 1, 2)),
    )


def async_shape_of(seed: int) -> Shape:
    """The same under `replication: async`. What a producer's sequence is after a loss is not asked, so none is idempotent; and
    no broker leaves for good, for what it alone held would stay on its volume and be told by nobody."""
    chance = random.Random(f"lonely masters {seed}")
    lossy = chance.random() < LOSSY_LIVES
    return msgspec.structs.replace(
        master_shape_of(seed),
        replication="async",
        idempotent=0,
        brokers=2 + seed % 2,
        resizes=False,
        min_in_sync=1,
        allow_data_loss=lossy,
        max_lag=chance.choice(LAGS_MAX) if lossy else 0,
    )
