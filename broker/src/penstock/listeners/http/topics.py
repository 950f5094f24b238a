"""`GET /v1/topics` and `GET /v1/topics/{topic}` of the data API: what can be written to and read from, and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.listeners.http.models import DataPartition, DataTopic, DataTopicDetail, DataTopicList
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices


class DataTopicRoutes:
    """Topics as the data API shows them; making and changing them is the admin API's."""

    def __init__(self, services: HttpServices) -> None:
        self._topics = services.topics

    def routes(self) -> Routes:
        """Both routes."""
        listing: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/v1/topics",
            name="listTopics",
            summary="All topics.",
            handler=self.list,
            replies={200: DataTopicList},
            query=NoQuery,
            body=NoBody,
        )
        detail: Route[NoQuery, NoBody] = Route(
            method="GET",
            path="/v1/topics/{topic}",
            name="getTopic",
            summary="One topic and the bounds of its partitions.",
            handler=self.get,
            replies={200: DataTopicDetail},
            query=NoQuery,
            body=NoBody,
        )
        return [listing, detail]

    async def list(self, call: Call[NoQuery, NoBody]) -> Reply:
        """All topics."""
        summaries = self._topics.list_topics(call.context)
        return Reply(
            DataTopicList(
                [DataTopic(t.name, t.partitions, t.internal, t.messages, t.bytes) for t in summaries]
            )
        )

    async def get(self, call: Call[NoQuery, NoBody]) -> Reply:
        """One topic; 404 when there is none."""
        summary, details, _ = self._topics.describe_topic(call.context, call.path["topic"])
        partitions = [DataPartition(d.partition, d.log_start, d.high_watermark) for d in details]
        return Reply(
            DataTopicDetail(
                name=summary.name,
                partitions=summary.partitions,
                internal=summary.internal,
                messages=summary.messages,
                bytes=summary.bytes,
                partition_details=partitions,
            )
        )
