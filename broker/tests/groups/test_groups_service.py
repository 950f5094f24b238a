"""Membership, positions and expiry through the service, over a fake log and virtual time."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from groups_harness import SETTINGS, subscription
from groups_service_fakes import CONTEXT, NO_QUORUM, House, at
from penstock.groups.commands import GroupGeneration, GroupOffsets
from penstock.groups.machine import GroupsMachine
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.group_api import JoinRequest, LeavingMember, OffsetToCommit, SyncRequest
from penstock.service.groups import ConsumerGroups
from penstock.testing.virtual_time import settle


async def test_join_and_sync_over_virtual_time() -> None:
    house = House()
    joining = house.join()
    await house.clock.advance(2_999)
    assert not joining.done()
    await house.clock.advance(1)
    joined = await joining
    assert joined.member_id == joined.leader == "app-n1"
    assert joined.members == (("app-n1", None, subscription("t")),)
    assert [d.client_host for d in (await house.service.detail(CONTEXT, "g")).members] == ["/10.0.0.1"]


async def test_sync_is_answered_after_the_commit_of_the_generation() -> None:
    house = House()
    joining = house.join()
    await house.clock.advance(3_000)
    member = (await joining).member_id
    house.log.held = True
    syncing = asyncio.ensure_future(
        house.service.sync(CONTEXT, SyncRequest("g", 1, member, None, {member: b"A"}))
    )
    await settle()
    assert not syncing.done()
    house.log.commit()
    assert (await syncing).assignment == b"A"
    (record,) = house.log.commands
    assert isinstance(record, GroupGeneration)
    assert record.time_ms == house.clock.now_ms()


@pytest.mark.parametrize("late", [False, True])
async def test_sync_fails_when_the_log_refuses_the_generation(late: bool) -> None:
    house = House()
    joining = house.join()
    await house.clock.advance(3_000)
    member = (await joining).member_id
    if late:
        house.log.late_refusal = NO_QUORUM
    else:
        house.log.refusal = NO_QUORUM
    synced = await house.service.sync(CONTEXT, SyncRequest("g", 1, member, None, {member: b"A"}))
    assert synced.error is ErrorCode.COORDINATOR_NOT_AVAILABLE


async def test_fault_of_the_log_answers_the_member_and_is_not_swallowed() -> None:
    house = House()
    joining = house.join()
    await house.clock.advance(3_000)
    member = (await joining).member_id
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, details: faults.append(details["exception"]))
    fault = ZeroDivisionError()
    house.log.late_refusal = fault  # type: ignore[assignment]
    synced = await house.service.sync(CONTEXT, SyncRequest("g", 1, member, None, {member: b"A"}))
    await settle()
    assert synced.error is ErrorCode.UNKNOWN_SERVER_ERROR
    assert faults == [fault]


async def test_member_whose_client_went_away_harms_nobody() -> None:
    house = House()
    gone, stays = house.join(), house.join()
    await settle()
    gone.cancel()
    await house.clock.advance(6_000)
    assert (await stays).error is ErrorCode.NONE


async def test_session_ends_by_the_one_timer_and_the_group_is_forgotten() -> None:
    house = House()
    member = await house.member()
    for _ in range(4):
        await house.clock.advance(8_000)
        assert await house.service.heartbeat(CONTEXT, "g", 1, member, None) is ErrorCode.NONE
    # One timer for the group, one for expiry.
    assert len(house.clock.pending) == 2
    await house.clock.advance(10_000)
    assert await house.service.heartbeat(CONTEXT, "g", 1, member, None) is ErrorCode.UNKNOWN_MEMBER_ID
    assert len(house.clock.pending) == 1
    (described,) = await house.service.describe(CONTEXT, ["g"])
    assert (described.state, described.protocol_type) == ("Empty", "consumer")


async def test_members_go_on_after_a_failover() -> None:
    before = House()
    member = await before.member(instance="i")
    restored = GroupsMachine()
    restored.restore(before.machine.snapshot())
    house = House(machine=restored)
    assert await house.service.heartbeat(CONTEXT, "g", 1, member, "i") is ErrorCode.NONE
    synced = await house.service.sync(CONTEXT, SyncRequest("g", 1, member, "i", {}))
    assert synced.assignment == b"A"
    assert await house.commit("g", at(), generation=1, member_id=member) == [ErrorCode.NONE]


async def test_new_generation_after_an_empty_group_was_forgotten_goes_on_counting() -> None:
    house = House()
    member = await house.member()
    left = await house.service.leave(CONTEXT, "g", [LeavingMember(member, None)])
    assert [error for _, _, error in left.members] == [ErrorCode.NONE]
    joining = house.join()
    await house.clock.advance(3_000)
    assert (await joining).generation == 3


async def test_nothing_is_served_before_the_start_and_after_the_stop() -> None:
    house = House()
    joining = house.join()
    await settle()
    house.groups.stop()
    gone = ErrorCode.NOT_COORDINATOR
    assert (await joining).error is gone
    assert (await house.join()).error is gone
    assert await house.service.heartbeat(CONTEXT, "g", 1, "m", None) is gone
    assert (await house.service.sync(CONTEXT, SyncRequest("g", 1, "m", None, {}))).error is gone
    assert (await house.service.leave(CONTEXT, "g", [LeavingMember("m", None)])).error is gone
    assert await house.commit("g", at()) == [gone]
    assert await house.service.fetch_offsets(CONTEXT, "g", None) == (gone, [])
    assert [d.error for d in await house.service.describe(CONTEXT, ["g"])] == [gone]
    assert await house.service.delete_groups(CONTEXT, ["g"]) == [("g", gone)]
    with pytest.raises(PenstockError, match="does not coordinate"):
        await house.service.list_groups(CONTEXT)
    with pytest.raises(PenstockError, match="does not coordinate"):
        await house.service.detail(CONTEXT, "g")
    assert not house.clock.pending
    early = ConsumerGroups(house.machine, house.log, house.clock, house.positions, lambda: "n")
    assert await early.heartbeat(CONTEXT, "g", 1, "m", None) is ErrorCode.NOT_COORDINATOR


async def test_group_ids_are_checked() -> None:
    house = House()
    assert (await house.join("")).error is ErrorCode.INVALID_GROUP_ID
    assert (await house.join("x" * 513)).error is ErrorCode.INVALID_GROUP_ID
    # Simple consumers may have no group id, as in Kafka.
    assert await house.commit("", at()) == [ErrorCode.NONE]


async def test_unknown_groups_have_no_members() -> None:
    house = House()
    unknown = ErrorCode.UNKNOWN_MEMBER_ID
    assert (await house.join("g", "m")).error is unknown
    assert await house.service.heartbeat(CONTEXT, "g", 1, "m", None) is unknown
    left = await house.service.leave(CONTEXT, "g", [LeavingMember("m", None), LeavingMember("", "i")])
    assert left.members == [("m", None, unknown), ("", "i", unknown)]
    assert await house.commit("g", at(), generation=1, member_id="m") == [ErrorCode.ILLEGAL_GENERATION]
    assert house.groups._registry.live == {}


async def test_groups_are_bounded() -> None:
    house = House(msgspec.structs.replace(SETTINGS, groups_max=1))
    assert await house.commit("one", at()) == [ErrorCode.NONE]
    assert await house.commit("two", at()) == [ErrorCode.POLICY_VIOLATION]
    assert (await house.join("two")).error is ErrorCode.POLICY_VIOLATION
    assert await house.commit("one", at(1)) == [ErrorCode.NONE]


async def test_refused_first_join_leaves_nothing_behind() -> None:
    house = House()
    request = JoinRequest("g", 1, 1, "", None, "consumer", [("range", b"")])
    assert (await house.service.join(CONTEXT, request)).error is ErrorCode.INVALID_SESSION_TIMEOUT
    assert house.groups._registry.live == {}


async def test_find_coordinator() -> None:
    house = House()
    assert await house.service.find_coordinator(CONTEXT, 0, "g") == (ErrorCode.NONE, 7, "broker", 9092)
    refused = await house.service.find_coordinator(CONTEXT, 1, "tx")
    assert refused[0] is ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert (await house.service.find_coordinator(CONTEXT, 9, "x"))[0] is ErrorCode.INVALID_REQUEST
    house.positions.address = None
    away = await house.service.find_coordinator(CONTEXT, 0, "g")
    assert away[0] is ErrorCode.COORDINATOR_NOT_AVAILABLE


# --- positions ------------------------------------------------------------------------------------------


async def test_positions_are_read_back_as_committed() -> None:
    house = House()
    asked = OffsetToCommit("t", 1, 42, 3, "note")
    assert await house.commit("g", asked, OffsetToCommit("u", 0, 1, -1, None)) == [ErrorCode.NONE] * 2
    error, found = await house.service.fetch_offsets(CONTEXT, "g", None)
    assert error is ErrorCode.NONE
    assert [(c.topic, c.partition, c.offset, c.leader_epoch, c.metadata) for c in found] == [
        ("t", 1, 42, 3, "note"),
        ("u", 0, 1, -1, ""),
    ]
    _, (missing,) = await house.service.fetch_offsets(CONTEXT, "g", [("t", 0)])
    assert (missing.offset, missing.leader_epoch, missing.error) == (-1, -1, ErrorCode.NONE)
    assert (await house.service.fetch_offsets(CONTEXT, "nobody", None))[1] == []


async def test_each_position_is_refused_for_itself() -> None:
    house = House()
    errors = await house.commit(
        "g",
        at(),
        at(2),
        at(-1),
        at(topic="missing"),
        OffsetToCommit("t", 1, 1, -1, "x" * 4_096),
        OffsetToCommit("t", 1, 1, -1, "é" * 2_049),
    )
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert errors == [
        ErrorCode.NONE,
        unknown,
        unknown,
        unknown,
        ErrorCode.NONE,
        ErrorCode.OFFSET_METADATA_TOO_LARGE,
    ]


async def test_commit_is_checked_against_the_live_group() -> None:
    house = House()
    member = await house.member()
    assert await house.commit("g", at(), generation=1, member_id=member) == [ErrorCode.NONE]
    assert await house.commit("g", at(), generation=0, member_id=member) == [ErrorCode.ILLEGAL_GENERATION]
    assert await house.commit("g", at(), generation=1, member_id="x") == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert await house.commit("g", at()) == [ErrorCode.UNKNOWN_MEMBER_ID]
    await house.clock.advance(10_000)
    assert await house.commit("g", at(), generation=1, member_id=member) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert await house.commit("g", at()) == [ErrorCode.NONE]


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
    ],
)
async def test_refusal_of_the_log_is_told_in_the_coordinators_words(
    code: ErrorCode, answer: ErrorCode
) -> None:
    house = House()
    house.log.refusal = PenstockError(code, "no")
    assert await house.commit("g", at(9), at()) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, answer]


async def test_positions_of_a_deleted_topic_are_dropped() -> None:
    house = House()
    await house.commit("g", at(), at(topic="u"))
    await house.commit("h", at())
    await house.groups.topic_deleted("t")
    _, found = await house.service.fetch_offsets(CONTEXT, "g", None)
    assert [c.topic for c in found] == ["u"]
    assert not house.machine.exists("h")
    await house.groups.topic_deleted("t")


async def test_old_positions_expire_in_passes() -> None:
    settings = msgspec.structs.replace(
        SETTINGS, offsets_retention_ms=1_000_000, offsets_retention_check_interval_ms=100_000
    )
    house = House(settings)
    await house.commit("old", at())
    await house.commit("own", at(), retention_ms=50_000)
    await house.clock.advance(99_999)
    assert house.machine.exists("own")
    await house.clock.advance(1)
    assert not house.machine.exists("own")
    await house.clock.advance(899_999)
    assert house.machine.exists("old")
    house.log.refusal = NO_QUORUM
    await house.clock.advance(1)
    assert house.machine.exists("old")
    house.log.refusal = None
    await house.clock.advance(100_000)
    assert not house.machine.exists("old")


async def test_expiry_leaves_groups_alone_that_are_about_to_have_members() -> None:
    settings = msgspec.structs.replace(
        SETTINGS, offsets_retention_ms=1_000, offsets_retention_check_interval_ms=2_000
    )
    house = House(settings)
    await house.commit("g", at())
    joining = house.join()
    await house.clock.advance(2_500)
    assert house.machine.exists("g")
    await house.clock.advance(500)
    assert (await joining).error is ErrorCode.NONE


async def test_changed_settings_hold_for_live_groups() -> None:
    house = House()
    await house.member()
    house.groups.configure(msgspec.structs.replace(SETTINGS, members_max=1))
    assert (await house.join()).error is ErrorCode.GROUP_MAX_SIZE_REACHED


async def test_many_positions_go_into_commands_of_bounded_size() -> None:
    house = House()
    house.positions.topics["big"] = [(0, 1)] * 2_500
    await house.commit("g", *[at(p, topic="big") for p in range(2_500)])
    sizes = [len(c.offsets) for c in house.log.commands if isinstance(c, GroupOffsets)]
    assert sizes == [1_000, 1_000, 500]
