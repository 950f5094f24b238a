"""A quorum that is lost for good: who may be trusted, what the members fold to, and which copies belong together after."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.log.errors import DataFolderError
from penstock.raft.configuration import Change, ChangeKind, Configuration
from penstock.replication.members import MemberChanged, Members, ShardRecovered
from penstock.replication.recovery import (
    EPOCHS_SKIPPED,
    Copy,
    Recovery,
    continues,
    refuse_trust,
    wrong_copy,
)
from penstock.runtime.data_folder import FORMAT, DataFolder, Meta, claim
from penstock.session.peer_connection import Ended, Greeted, Greeting, Kinship, PeerConnection, kinship

_settings = settings(max_examples=300, deadline=None, derandomize=True, database=None)

OWN = Copy(
    shard_uid="shard",
    storage_id="storage-3",
    name="orders-0-2",
    member=3,
    configuration=Configuration((1, 2, 3)),
    last_index=100,
    state_index=90,
    answering=(),
)
RECOVERY = Recovery(1, "lineage-a", 3, "orders-0-2", 10_004, 100, 4, 95, 1_700_000_000_000)


def refused(**changes: object) -> str:
    return refuse_trust(msgspec.structs.replace(OWN, **changes)) or ""


# --- who may be trusted ---------------------------------------------------------------------------


def test_a_voter_without_a_majority_is_trusted() -> None:
    assert refused() == ""
    assert refused(answering=(7, 8)) == "", "new storages are no voters"
    assert refused(configuration=Configuration((1, 2, 3, 4, 5)), answering=(1,)) == ""
    assert refused(configuration=Configuration((1, 2, 3), (4,)), answering=(4,)) == "", "nor are learners"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"answering": (1,)}, "2 of the shard's 3 voters are there, which is a majority: nothing is lost"),
        ({"configuration": Configuration((1, 2, 3, 4, 5)), "answering": (1, 4)}, "3 of the shard's 5 voters"),
        ({"configuration": Configuration((3,))}, "1 of the shard's 1 voters"),
        ({"configuration": Configuration()}, "holds nothing of the shard"),
        ({"last_index": 0, "state_index": 0}, "holds nothing of the shard"),
        ({"member": 9}, "has forgotten what it held"),
        ({"configuration": Configuration((1, 2), (3,))}, "has forgotten what it held"),
        ({"state_index": 101}, "does not hold all of it"),
    ],
)
def test_who_must_not_be_trusted(changes: dict[str, object], part: str) -> None:
    assert part in refused(**changes)


def test_another_copy_than_the_one_that_is_meant() -> None:
    assert wrong_copy(OWN, "shard", "storage-3") is None
    assert "belongs to shard shard, not other" in (wrong_copy(OWN, "other", "storage-3") or "")
    assert "it was replaced" in (wrong_copy(OWN, "shard", "storage-1") or "")


def test_every_recovery_is_a_generation_and_skips_epochs() -> None:
    assert continues(0, 7) == (1, 7 + EPOCHS_SKIPPED)
    assert continues(3, 7)[0] == 4


# --- the members ----------------------------------------------------------------------------------


def a_shard_of_three() -> Members:
    members = Members()
    for index, member in enumerate((1, 2, 3), 1):
        members.apply(index, MemberChanged(ChangeKind.VOTER, member))
    return members


def test_whoever_is_trusted_is_alone_and_others_join_it() -> None:
    members = a_shard_of_three()
    members.apply(4, ShardRecovered(RECOVERY))
    assert (members.configuration, members.recovery) == (Configuration((3,)), RECOVERY)
    members.apply(5, MemberChanged(ChangeKind.LEARNER, 8))
    assert members.configuration == Configuration((3,), (8,))
    copy = Members()
    copy.restore(members.snapshot())
    assert (copy.configuration, copy.recovery) == (members.configuration, RECOVERY)


def test_the_state_of_a_shard_that_was_never_recovered_keeps_its_shape() -> None:
    """Replicas of different releases compare it."""
    assert set(msgspec.msgpack.decode(a_shard_of_three().snapshot())) == {
        "configuration",
        "announcements",
        "level",
        "clock_ms",
    }


def test_one_step_may_drop_many_members_only_this_way() -> None:
    before = Configuration((1, 2, 3, 4, 5), (6,))
    assert before.changed([Change(ChangeKind.ALONE, 3)]) == Configuration((3,))
    after = [Change(ChangeKind.ALONE, 3), Change(ChangeKind.LEARNER, 7), Change(ChangeKind.VOTER, 7)]
    assert before.changed(after) == Configuration((3, 7))


# --- which copies belong together -----------------------------------------------------------------


def greeting(member: int, generation: int = 0, lineage: str = "", **changes: object) -> Greeting:
    made = Greeting(
        cluster_id="cluster",
        shard_id=0,
        shard_uid="shard",
        ordinal=member % 100,
        member=member,
        storage_id=str(uuid.UUID(int=member << 65)),
        name=f"orders-0-{member % 100}",
        release="test",
        feature_level=1,
        founded=True,
        generation=generation,
        lineage=lineage,
        members=(member,),
    )
    return msgspec.structs.replace(made, **changes)


TRUSTED = greeting(3, 1, "a", leads=True, members=(3, 102))


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (greeting(1), greeting(2), Kinship.SAME),
        (TRUSTED, greeting(102, 1, "a"), Kinship.SAME),
        (TRUSTED, greeting(101, founded=False), Kinship.SAME),
        # It is being sent the log and has not read of the recovery yet.
        (TRUSTED, greeting(102), Kinship.SAME),
        (greeting(102), TRUSTED, Kinship.SAME),
        (TRUSTED, greeting(1), Kinship.OTHER_LEFT_BEHIND),
        (greeting(1), TRUSTED, Kinship.OWN_LEFT_BEHIND),
        # Who does not lead may not have read who the members are now.
        (greeting(1), msgspec.structs.replace(TRUSTED, leads=False), Kinship.SAME),
        (TRUSTED, greeting(1, 1, "b"), Kinship.SPLIT),
        (TRUSTED, greeting(102, 1, "b"), Kinship.SPLIT),
        (greeting(102, 2, "b", leads=True), TRUSTED, Kinship.OTHER_LEFT_BEHIND),
        (TRUSTED, greeting(102, 2, "b", leads=True), Kinship.OWN_LEFT_BEHIND),
    ],
)
def test_kinship(own: Greeting, other: Greeting, expected: Kinship) -> None:
    assert kinship(own, other) is expected


@st.composite
def greetings(draw: st.DrawFn, member: int, other: int) -> Greeting:
    generation = draw(st.integers(0, 2))
    lineage = draw(st.sampled_from("ab")) if generation else ""
    members = (member, other) if draw(st.booleans()) else (member,)
    return greeting(member, generation, lineage, members=members, leads=draw(st.booleans()))


@_settings
@given(greetings(1, 2), greetings(2, 1))
def test_no_two_copies_of_different_recoveries_ever_talk(one: Greeting, other: Greeting) -> None:
    """Unless the newer one has admitted the older one itself; and only a leader sends a copy away for good."""
    found = (kinship(one, other), kinship(other, one))
    if one.lineage == other.lineage:
        assert found == (Kinship.SAME, Kinship.SAME)
        return
    if one.generation == other.generation:
        assert found == (Kinship.SPLIT, Kinship.SPLIT)
        return
    newer, older = (one, other) if one.generation > other.generation else (other, one)
    admitted = older.member in newer.members
    assert (kinship(newer, older) is Kinship.SAME) == admitted
    assert (kinship(older, newer) is Kinship.OWN_LEFT_BEHIND) == (newer.leads and not admitted)


def ends(own: Greeting, other: Greeting) -> Ended | Greeted:
    (event,) = PeerConnection(own).feed(b"".join(PeerConnection(other).opening()))
    assert isinstance(event, Ended | Greeted)
    return event


def test_both_sides_are_told_what_to_do() -> None:
    old = greeting(1)
    for own, other, found in (
        (TRUSTED, old, Kinship.OTHER_LEFT_BEHIND),
        (old, TRUSTED, Kinship.OWN_LEFT_BEHIND),
    ):
        event = ends(own, other)
        assert isinstance(event, Ended)
        assert event.kinship is found
        assert event.sentence.startswith(
            f"orders-0-1 (storage {old.storage_id}) holds the shard from before it was recovered without it, and orders-0-3 is of"
        )
        assert event.sentence.endswith("start it with an empty one")
    for own, other in itertools.permutations((TRUSTED, greeting(1, 1, "b", leads=True))):
        event = ends(own, other)
        assert isinstance(event, Ended)
        assert (event.kinship, "were both trusted" in event.sentence) == (Kinship.SPLIT, True)


def test_a_greeting_of_an_earlier_release_is_one_without_a_recovery() -> None:
    known = msgspec.to_builtins(greeting(1))
    for field in ("generation", "lineage", "members", "leads"):
        del known[field]
    assert kinship(msgspec.convert(known, Greeting), TRUSTED) is Kinship.OWN_LEFT_BEHIND


# --- the identity on disk -------------------------------------------------------------------------


def test_a_copy_that_was_left_behind_does_not_start_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    meta = Meta(
        FORMAT, "cluster", 0, uuid.UUID(int=7), uuid.UUID(int=1), 1, recovery=RECOVERY, joined=(1, "a")
    )
    folder.save_meta(meta)
    assert folder.load_meta() == meta
    folder.save_meta(msgspec.structs.replace(meta, left_behind="it was recovered without it"))
    with pytest.raises(DataFolderError, match="is left as it is: it was recovered without it"):
        claim(folder, cluster_id="", shard_id=0, shard_uid="", ordinal=1, new_cluster_id="unused")
    folder.close()
