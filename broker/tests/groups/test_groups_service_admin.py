"""Views, deletion, declaration and reset of groups through the service."""

from __future__ import annotations

import pytest

from groups_harness import assignment
from groups_service_fakes import CONTEXT, NO_QUORUM, House, at
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.group_api import LeavingMember, OffsetReset, StartPosition
from penstock.testing.virtual_time import settle

EARLIEST, LATEST = StartPosition(at="earliest"), StartPosition(at="latest")


async def positions(house: House, group: str = "g") -> dict[tuple[str, int], int]:
    _, found = await house.service.fetch_offsets(CONTEXT, group, None)
    return {(c.topic, c.partition): c.offset for c in found}


async def test_describe_shows_bytes_of_stable_groups_only() -> None:
    house = House()
    await house.member(assigned=b"bytes")
    house.join("forming")
    await settle()
    stable, forming, unknown = await house.service.describe(CONTEXT, ["g", "forming", "none"])
    assert (stable.state, stable.protocol, stable.members[0].assignment) == ("Stable", "range", b"bytes")
    assert (forming.state, forming.protocol, forming.members[0].metadata) == ("PreparingRebalance", "", b"")
    assert (unknown.state, unknown.error, unknown.message) == (
        "Dead",
        ErrorCode.NONE,
        "Group none not found.",
    )


async def test_list_filters_by_state_and_type() -> None:
    house = House()
    await house.member()
    await house.commit("simple", at())
    house.join("forming", known=True)
    await settle()
    everything = await house.service.list_groups(CONTEXT)
    assert [(o.group, o.state, o.members, o.protocol_type) for o in everything] == [
        ("forming", "Empty", 0, ""),
        ("g", "Stable", 1, "consumer"),
        ("simple", "Empty", 0, ""),
    ]
    assert [o.group for o in await house.service.list_groups(CONTEXT, ["stable"])] == ["g"]
    assert await house.service.list_groups(CONTEXT, (), ["consumer"]) == []
    assert len(await house.service.list_groups(CONTEXT, (), ["Classic"])) == 3


async def test_detail_decodes_assignments_and_counts_lag() -> None:
    house = House()
    member = await house.member(assigned=assignment(t=[0, 1]))
    await house.commit("g", at(0, 90), at(1, 3), at(topic="u", offset=9), generation=1, member_id=member)
    house.positions.topics["gone"] = [(0, 1)]
    await house.commit("g", at(topic="gone"), generation=1, member_id=member)
    del house.positions.topics["gone"]
    detail = await house.service.detail(CONTEXT, "g")
    assert detail.assignments == {member: {"t": [0, 1]}}
    # Partition 1 begins at 10, so a position before that lags by what is there.
    assert [(p.topic, p.partition, p.lag) for p in detail.positions] == [
        ("t", 0, 10),
        ("t", 1, 40),
        ("u", 0, 0),
    ]
    assert (detail.overview.lag, detail.overview.declared, detail.coordinator) == (50, False, 7)
    with pytest.raises(PenstockError) as refused:
        await house.service.detail(CONTEXT, "none")
    assert refused.value.code is ErrorCode.GROUP_ID_NOT_FOUND


async def test_positions_in_one_partition_are_told_by_group_up_to_a_bound() -> None:
    house = House()
    member = await house.member()
    await house.commit("g", at(0, 90), at(1, 3), generation=1, member_id=member)
    for group in ("a", "z"):
        await house.commit(group, at(0, 5))
    await house.commit("elsewhere", at(1, 5), at(topic="u"))
    found, count = await house.service.positions_at(CONTEXT, "t", 0, 2)
    assert [(each.group, each.state, each.offset) for each in found] == [
        ("a", "Empty", 5),
        ("g", "Stable", 90),
    ]
    assert count == 3
    assert found[0].commit_ms == house.clock.now_ms()
    assert await house.service.positions_at(CONTEXT, "none", 0, 2) == ([], 0)
    house.service.stop()
    with pytest.raises(PenstockError) as refused:
        await house.service.positions_at(CONTEXT, "t", 0, 2)
    assert refused.value.code is ErrorCode.NOT_COORDINATOR


async def test_foreign_assignment_bytes_are_shown_as_nothing() -> None:
    house = House()
    member = await house.member(assigned=b"\xff\xff\xff")
    assert (await house.service.detail(CONTEXT, "g")).assignments == {member: {}}


async def test_only_groups_without_members_can_be_deleted() -> None:
    house = House()
    member = await house.member()
    await house.commit("g", at(), generation=1, member_id=member)
    refused = [("g", ErrorCode.NON_EMPTY_GROUP), ("none", ErrorCode.GROUP_ID_NOT_FOUND)]
    assert await house.service.delete_groups(CONTEXT, ["g", "none"]) == refused
    await house.service.leave(CONTEXT, "g", [LeavingMember(member, None)])
    house.log.refusal = NO_QUORUM
    failed = [("g", ErrorCode.COORDINATOR_NOT_AVAILABLE)]
    assert await house.service.delete_groups(CONTEXT, ["g"]) == failed
    house.log.refusal = None
    assert await house.service.delete_groups(CONTEXT, ["g"]) == [("g", ErrorCode.NONE)]
    assert not house.machine.exists("g")


async def test_offsets_of_subscribed_topics_cannot_be_deleted() -> None:
    # KIP-496.
    house = House()
    member = await house.member()
    await house.commit("g", at(), at(topic="u"), generation=1, member_id=member)
    error, results = await house.service.delete_offsets(CONTEXT, "g", [("t", 0), ("u", 0), ("x", 0)])
    assert error is ErrorCode.NONE
    assert results == [
        ("t", 0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),
        ("u", 0, ErrorCode.NONE),
        ("x", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert await positions(house) == {("t", 0): 5}
    await house.service.leave(CONTEXT, "g", [LeavingMember(member, None)])
    assert (await house.service.delete_offsets(CONTEXT, "g", [("t", 0)]))[1] == [("t", 0, ErrorCode.NONE)]
    assert (await house.service.delete_offsets(CONTEXT, "none", []))[0] is ErrorCode.GROUP_ID_NOT_FOUND


async def test_offsets_are_kept_while_the_first_generation_forms() -> None:
    house = House()
    await house.commit("g", at())
    house.join()
    await settle()
    _, results = await house.service.delete_offsets(CONTEXT, "g", [("t", 0)])
    assert results == [("t", 0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)]


# --- declare --------------------------------------------------------------------------------------------


async def test_declaring_commits_missing_positions_once() -> None:
    house = House()
    await house.commit("g", at(0, 42))
    assert await house.service.declare(CONTEXT, "g", "stream", ["t"], LATEST)
    assert await positions(house) == {("t", 0): 42, ("t", 1): 50}
    written = len(house.log.commands)
    assert not await house.service.declare(CONTEXT, "g", "stream", ["t"], LATEST)
    assert len(house.log.commands) == written
    assert not await house.service.declare(CONTEXT, "g", "stream", ["t", "u"], EARLIEST)
    assert (await positions(house))["u", 0] == 0
    detail = await house.service.detail(CONTEXT, "g")
    assert (detail.topics, detail.overview.declared, detail.overview.mode) == (["t", "u"], True, "stream")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (EARLIEST, [0, 10]),
        (LATEST, [100, 50]),
        (StartPosition(offset=20), [20, 20]),
        (StartPosition(offset=0), [0, 10]),
        (StartPosition(offset=70), [70, 50]),
        (StartPosition(timestamp_ms=1_000), [33, 50]),
    ],
)
async def test_start_positions_lie_within_the_partition(start: StartPosition, expected: list[int]) -> None:
    house = House()
    house.positions.by_time["t", 0, 1_000] = 33
    await house.service.declare(CONTEXT, "g", "stream", ["t"], start)
    assert list((await positions(house)).values()) == expected


async def test_position_committed_during_the_look_up_wins() -> None:
    house = House()

    async def interfere() -> None:
        await house.commit("g", at(0, 77))

    house.positions.on_lookup = interfere
    await house.service.declare(CONTEXT, "g", "stream", ["t"], StartPosition(timestamp_ms=1))
    assert (await positions(house))["t", 0] == 77


@pytest.mark.parametrize(
    ("group", "mode", "topics", "start", "code"),
    [
        ("", "stream", ["t"], LATEST, ErrorCode.INVALID_GROUP_ID),
        ("g", "broadcast", ["t"], LATEST, ErrorCode.INVALID_REQUEST),
        ("g", "stream", ["t", "x"], LATEST, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("g", "stream", ["t"], StartPosition(), ErrorCode.INVALID_REQUEST),
        ("g", "stream", ["t"], StartPosition(at="middle"), ErrorCode.INVALID_REQUEST),
        ("g", "stream", ["t"], StartPosition(at="latest", offset=1), ErrorCode.INVALID_REQUEST),
        ("g", "stream", ["t"], StartPosition(offset=-1), ErrorCode.INVALID_REQUEST),
    ],
)
async def test_bad_declarations_change_nothing(
    group: str, mode: str, topics: list[str], start: StartPosition, code: ErrorCode
) -> None:
    house = House()
    with pytest.raises(PenstockError) as refused:
        await house.service.declare(CONTEXT, group, mode, topics, start)
    assert refused.value.code is code
    assert house.log.commands == []


async def test_mode_of_a_declared_group_cannot_change() -> None:
    house = House()
    await house.service.declare(CONTEXT, "g", "stream", ["t"], LATEST)
    with pytest.raises(PenstockError, match="cannot be changed to 'queue'") as refused:
        await house.service.declare(CONTEXT, "g", "queue", ["t"], LATEST)
    assert refused.value.code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


# --- reset ----------------------------------------------------------------------------------------------


async def test_reset_moves_declared_and_committed_topics() -> None:
    house = House()
    await house.service.declare(CONTEXT, "g", "stream", ["t"], LATEST)
    await house.commit("g", at(topic="u", offset=1))
    planned = await house.service.reset(CONTEXT, "g", EARLIEST, dry_run=True)
    assert planned == [
        OffsetReset("t", 0, 100, 0),
        OffsetReset("t", 1, 50, 10),
        OffsetReset("u", 0, 1, 0),
    ]
    assert (await positions(house))["t", 0] == 100
    assert await house.service.reset(CONTEXT, "g", EARLIEST) == planned
    assert await positions(house) == {("t", 0): 0, ("t", 1): 10, ("u", 0): 0}
    only = await house.service.reset(CONTEXT, "g", LATEST, topics=["u"])
    assert only == [OffsetReset("u", 0, 0, 5)]


async def test_reset_is_refused_while_members_are_active() -> None:
    house = House()
    await house.member()
    with pytest.raises(PenstockError, match="force the reset") as refused:
        await house.service.reset(CONTEXT, "g", EARLIEST)
    assert refused.value.code is ErrorCode.NON_EMPTY_GROUP


async def test_forced_reset_evicts_first_so_that_no_old_position_comes_back() -> None:
    house = House()
    member = await house.member()
    await house.commit("g", at(0, 99), generation=1, member_id=member)

    async def interfere() -> None:
        # While positions are looked up, the evicted member cannot commit, and nobody can join.
        unknown = [ErrorCode.UNKNOWN_MEMBER_ID]
        assert await house.commit("g", at(0, 100), generation=1, member_id=member) == unknown
        assert (await house.join()).error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        with pytest.raises(PenstockError, match="being reset already"):
            await house.service.reset(CONTEXT, "g", EARLIEST, force=True)

    house.positions.on_lookup = interfere
    house.positions.by_time = {("t", 0, 5): 7}
    resets = await house.service.reset(CONTEXT, "g", StartPosition(timestamp_ms=5), force=True)
    assert resets[0] == OffsetReset("t", 0, 99, 7)
    assert await house.service.heartbeat(CONTEXT, "g", 1, member, None) is ErrorCode.UNKNOWN_MEMBER_ID
    house.positions.on_lookup = None
    await house.member()
    assert (await positions(house))["t", 0] == 7


async def test_failed_reset_lets_members_join_again() -> None:
    house = House()
    await house.commit("g", at())
    house.log.refusal = NO_QUORUM
    with pytest.raises(PenstockError):
        await house.service.reset(CONTEXT, "g", LATEST)
    house.log.refusal = None
    await house.member()


async def test_reset_of_what_does_not_exist_is_refused() -> None:
    house = House()
    with pytest.raises(PenstockError) as refused:
        await house.service.reset(CONTEXT, "none", LATEST)
    assert refused.value.code is ErrorCode.GROUP_ID_NOT_FOUND
    await house.commit("g", at())
    with pytest.raises(PenstockError, match="no topic 'x'") as refused:
        await house.service.reset(CONTEXT, "g", LATEST, topics=["x"])
    assert refused.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
