"""Commits are told to tracing where there is one, with what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from groups_service_fakes import CONTEXT, NO_QUORUM, House
from penstock.groups.commands import OffsetEntry
from penstock.service.context import RequestContext
from penstock.service.deliver_trace import DeliverTracing
from penstock.service.group_api import OffsetToCommit


class RecordingTracing:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def settling(
        self, context: RequestContext, group: str, member_id: str, offsets: Sequence[OffsetEntry]
    ) -> Callable[[str | None], None]:
        asked = (group, member_id, [(entry.topic, entry.partition, entry.offset) for entry in offsets])
        return lambda error: self.told.append((*asked, error))


async def commit(house: House, *offsets: OffsetToCommit) -> None:
    await house.service.commit_offsets(CONTEXT, "g", -1, "", None, offsets)


async def test_what_was_accepted_is_told_when_it_is_done() -> None:
    house, tracing = House(), RecordingTracing()
    house.groups.tracing = cast(DeliverTracing, tracing)
    await commit(house, OffsetToCommit("t", 0, 5), OffsetToCommit("nothing", 0, 5), OffsetToCommit("t", 1, 6))
    assert tracing.told == [("g", "", [("t", 0, 5), ("t", 1, 6)], None)]


async def test_what_the_log_refuses_is_told_with_its_error() -> None:
    house, tracing = House(), RecordingTracing()
    house.groups.tracing = cast(DeliverTracing, tracing)
    house.log.late_refusal = NO_QUORUM
    await commit(house, OffsetToCommit("t", 0, 5))
    assert tracing.told == [("g", "", [("t", 0, 5)], "COORDINATOR_NOT_AVAILABLE")]


async def test_nothing_is_told_of_what_was_refused_before() -> None:
    house, tracing = House(), RecordingTracing()
    house.groups.tracing = cast(DeliverTracing, tracing)
    await commit(house, OffsetToCommit("nothing", 0, 5))
    assert tracing.told == []
