"""What the Kafka listener is given: the use-cases behind it, and what each handler is told about one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from penstock.service.api import DataService, TopicService
from penstock.service.context import RequestContext
from penstock.service.group_api import GroupService


class KafkaServices(NamedTuple):
    """`clock` gives milliseconds that never go back; it times idle and stalled connections and nothing else."""

    data: DataService
    topics: TopicService
    groups: GroupService
    clock: Callable[[], int]


class Call(NamedTuple):
    """One request's surroundings. `fetch_bytes_max` is what a fetch may bring now."""

    services: KafkaServices
    context: RequestContext
    version: int
    fetch_bytes_max: int
