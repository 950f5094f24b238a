"""How each state machine writes its state is fixed for its version: replicas of two releases compare hashes of it.

When this fails, the machine writes something else than the release before. Raise its `version` and write the new hash down
under it, so that hashes of the two are not compared; a replica that is right would be told that it is wrong.
"""

from __future__ import annotations

import hashlib

import pytest

from penstock.catalog.partitions import Partitions, PartitionsOpened, PartitionState
from penstock.catalog.topics import Catalog, ClusterConfigured, PartitionPlace, Topic, TopicCreated
from penstock.groups.commands import GroupDeclared, GroupGeneration, GroupOffsets, MemberRecord, OffsetEntry
from penstock.groups.machine import GroupsMachine
from penstock.model.commands import Command, StateMachine
from penstock.model.record_batch import BatchHeader
from penstock.raft.configuration import ChangeKind
from penstock.replication.members import (
    Announcement,
    FeatureLevelRaised,
    LeadershipBegan,
    MemberAnnounced,
    MemberChanged,
    Members,
)
from penstock.session.producers import ProducerIdAllocated, ProducerSessions

WRITTEN = {
    ("members", 1): "1fdbd0941880022a",
    ("catalog", 1): "ad7f71ea6e78c371",
    ("partitions", 1): "054dbb18a8d14529",
    ("producers", 1): "165217019b29a08e",
    ("groups", 1): "6f2a781f9c7cbf5f",
}
MEMBER = MemberRecord("m1", None, "client", "host", 10_000, 60_000, (("range", b"x"),), b"y")
BATCH = BatchHeader(
    base_offset=5,
    batch_length=90,
    leader_epoch=1,
    magic=2,
    crc=0,
    attributes=0,
    last_offset_delta=2,
    first_timestamp=1,
    max_timestamp=1,
    producer_id=7,
    producer_epoch=1,
    base_sequence=3,
    record_count=3,
)


def producers() -> ProducerSessions:
    sessions = ProducerSessions()
    sessions.apply_batch(3, 1, BATCH)
    return sessions


CASES: list[tuple[StateMachine, list[Command]]] = [
    (
        Members(),
        [
            MemberChanged(ChangeKind.VOTER, 1),
            MemberChanged(ChangeKind.LEARNER, 2),
            MemberAnnounced(
                Announcement(1, 0, "s", "b0", "0.1.0", {"kafka": "h:1"}, "h:2", 2, {"admin": "h:3"})
            ),
            LeadershipBegan(1, 1_700_000_000_000),
            FeatureLevelRaised(2),
        ],
    ),
    (
        Catalog(),
        [
            TopicCreated(
                Topic("t", bytes(16), (PartitionPlace(1), PartitionPlace(2)), {"retention.ms": "1"}, 9)
            ),
            ClusterConfigured({"log.retention.ms": "5"}),
        ],
    ),
    (Partitions(), [PartitionsOpened((PartitionState(1, "t", 0, bytes(16)),))]),
    (producers(), [ProducerIdAllocated(9)]),
    (
        GroupsMachine(),
        [
            GroupOffsets("g", 5, (OffsetEntry("t", 0, 12, 1, "m"),)),
            GroupGeneration("g", 6, 2, "consumer", "range", "m1", (MEMBER,)),
            GroupDeclared("d", 7, "stream", ("t",), start_at="earliest"),
        ],
    ),
]


@pytest.mark.parametrize(("machine", "commands"), CASES, ids=lambda item: getattr(item, "name", "log"))
def test_a_version_is_written_as_it_always_was(machine: StateMachine, commands: list[Command]) -> None:
    for index, command in enumerate(commands, 10):
        machine.apply(index, command)
    found = hashlib.sha256(machine.snapshot()).hexdigest()[:16]
    assert found == WRITTEN.get((machine.name, machine.version)), f"{machine.name}/{machine.version}"
