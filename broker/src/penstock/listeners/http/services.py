"""What the HTTP listeners are given: the use-cases, the broker's own status, and the counters they keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.service.api import BrokerService, DataService, TopicService
    from penstock.service.group_api import GroupService
    from penstock.telemetry.counters import Counters


@dataclass(frozen=True, slots=True)
class HttpServices:
    """The house behind both HTTP doors."""

    data: DataService
    topics: TopicService
    groups: GroupService
    broker: BrokerService
    counters: Counters
