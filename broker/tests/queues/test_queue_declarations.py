"""Queue groups beside the others: how they are declared and moved, and that no member of one kind gets into the other."""

from __future__ import annotations

import asyncio

import pytest

from penstock.delivery.commands import QueueGroupDropped, QueuePositionSet
from penstock.delivery.machine import QueuesMachine
from penstock.groups.commands import GroupDeclared, GroupDeleted
from penstock.groups.machine import GroupsMachine
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.replication.features import FEATURE_LEVEL
from penstock.service import groups_declared
from penstock.service.group_api import JoinRequest, OffsetReset, OffsetToCommit, StartPosition
from penstock.service.groups import ConsumerGroups
from penstock.testing.virtual_time import FakeClock
from queue_scene import CONTEXT, SceneLog

EARLIEST, LATEST = StartPosition(at="earliest"), StartPosition(at="latest")


class Positions:
    """Topic `t` has offsets 3 to 9 in its one partition."""

    def partition_count(self, topic: str) -> int | None:
        return 1 if topic == "t" else None

    def log_start(self, topic: str, partition: int) -> int:
        return 3

    def high_watermark(self, topic: str, partition: int) -> int:
        return 10

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        return 7

    async def timestamp_at(self, topic: str, partition: int, offset: int) -> int:
        return 1_000 + offset

    def coordinator(self, listener: str, group: str) -> tuple[int, str, int] | None:
        return None


class Groups:
    """The group service on its own."""

    def __init__(self, level: int = FEATURE_LEVEL) -> None:
        machine, self.queues = GroupsMachine(), QueuesMachine()
        self.log = SceneLog([machine, self.queues])
        self.service = ConsumerGroups(
            machine, self.log, FakeClock(), Positions(), lambda: "n", None, self.queues, lambda: level
        )
        self.changed: list[str] = []
        self.service.registry.on_queue_changed = self.changed.append
        self.service.start()

    async def declare(
        self, start: StartPosition = LATEST, queue: QueueSettings | None = None, group: str = "g"
    ) -> bool:
        return await self.service.declare(CONTEXT, group, "queue", ["t"], start, queue)

    def floor(self) -> int:
        queue = self.queues.queue("g", "t", 0)
        assert queue is not None
        return queue.floor


@pytest.mark.parametrize(
    ("start", "floor"),
    [(EARLIEST, 3), (LATEST, 10), (StartPosition(offset=5), 5), (StartPosition(timestamp_ms=1), 7)],
)
async def test_a_queue_group_begins_where_it_is_declared(start: StartPosition, floor: int) -> None:
    groups = Groups()
    assert await groups.declare(start, QueueSettings(lease_ms=5))
    assert groups.floor() == floor
    assert groups.changed == ["g"]
    [declared] = groups.log.of(GroupDeclared)
    assert declared.queue == QueueSettings(lease_ms=5)
    # Once more, otherwise: it stays where it is.
    assert not await groups.declare(EARLIEST, QueueSettings(lease_ms=6))
    assert groups.floor() == floor
    assert len(groups.log.of(QueuePositionSet)) == 1
    detail = await groups.service.detail(CONTEXT, "g")
    assert detail.queue is not None
    assert (detail.queue.settings.lease_ms, detail.overview.lag) == (6, 10 - floor)
    assert detail.queue.oldest_ms == (None if floor == 10 else 1_000 + floor)


async def test_dead_letters_do_not_go_where_the_broker_alone_writes() -> None:
    with pytest.raises(PenstockError, match="'__trace', which the broker alone writes"):
        await Groups().declare(EARLIEST, QueueSettings(dead_letter_topic="__trace"))


async def test_a_queue_group_is_moved_and_deleted() -> None:
    groups = Groups()
    await groups.declare(LATEST)
    planned = await groups.service.reset(CONTEXT, "g", EARLIEST, dry_run=True)
    assert planned == [OffsetReset("t", 0, 10, 3)]
    assert groups.floor() == 10
    assert await groups.service.reset(CONTEXT, "g", EARLIEST) == planned
    assert groups.floor() == 3
    assert await groups.service.delete_groups(CONTEXT, ["g"]) == [("g", ErrorCode.NONE)]
    assert [type(command) for command in groups.log.commands[-2:]] == [GroupDeleted, QueueGroupDropped]
    assert groups.queues.groups() == []
    assert groups.changed == ["g"] * 3


async def test_below_its_feature_level_nothing_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_declared, "LEVEL_LOOK_SECONDS", 0)
    groups = Groups(level=3)
    with pytest.raises(PenstockError, match="every broker was upgraded") as refused:
        await groups.declare()
    assert refused.value.code is ErrorCode.UNSUPPORTED_VERSION
    assert groups.log.commands == []


async def test_a_level_that_is_just_being_reached_is_waited_for() -> None:
    levels = iter([1, 1, *[FEATURE_LEVEL] * 9])
    groups = Groups()
    groups.service.registry.level = lambda: next(levels)
    assert await groups.declare()


async def test_members_of_stream_groups_stay_out() -> None:
    groups = Groups()
    await groups.declare()
    request = JoinRequest("g", 10_000, 60_000, "", None, "consumer", [("range", b"")])
    joined = await groups.service.join(CONTEXT, request)
    assert joined.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    committed = await groups.service.commit_offsets(CONTEXT, "g", -1, "", None, [OffsetToCommit("t", 0, 5)])
    assert committed == [("t", 0, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)]


async def test_a_group_with_positions_does_not_become_a_queue() -> None:
    groups = Groups()
    await groups.service.commit_offsets(CONTEXT, "g", -1, "", None, [OffsetToCommit("t", 0, 5)])
    before: list[Command] = list(groups.log.commands)
    with pytest.raises(PenstockError, match="members or positions of mode 'stream'"):
        await groups.declare()
    assert groups.log.commands == before


async def test_names_that_cannot_have_a_dead_letter_topic_need_another() -> None:
    groups = Groups()
    with pytest.raises(PenstockError, match=r"deadLetter\.topicName"):
        await groups.declare(group="a group")
    assert await groups.declare(queue=QueueSettings(dead_letter_topic="dead"), group="a group")
    await asyncio.sleep(0)
