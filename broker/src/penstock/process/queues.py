"""Every queue of a broker whose length is shown, named by what waits for what. Bounds are shown where a queue has its own."""

from __future__ import annotations

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http.limits import REQUESTS_IN_FLIGHT_MAX
from penstock.listeners.http.listener import DataHttpListener
from penstock.listeners.kafka.server import KafkaListener
from penstock.runtime.links import PENDING_BYTES_MAX
from penstock.runtime.member import ShardMember
from penstock.runtime.peer_requests import OPEN_MAX
from penstock.runtime.shipping import WAITING_MAX
from penstock.service.queues import QueueGroups
from penstock.telemetry.samples import Queue


def member_queues(member: ShardMember, groups: QueueGroups) -> list[Queue]:
    """Of the log, between the brokers, and of queue groups. Of what waits for peers, the fullest peer's is shown."""
    links, requests, shipping = member.links, member.requests, member.shipping
    return [
        *member.shard.queues(),
        Queue("requests_for_leader", "items", lambda: requests.open, OPEN_MAX),
        Queue("messages_for_entries", "items", lambda: shipping.waiting, WAITING_MAX),
        Queue("frames_for_peer", "bytes", lambda: links.pending_bytes, PENDING_BYTES_MAX),
        Queue("leases_for_messages", "items", lambda: groups.waiting_count),
    ]


def kafka_queues(listener: KafkaListener) -> list[Queue]:
    """What a Kafka listener holds for its clients."""
    memory, limits = listener.memory, listener.limits
    return [
        Queue("kafka_requests_for_answer", "bytes", lambda: memory.held, memory.bytes_max),
        Queue(
            "kafka_responses_for_readers",
            "bytes",
            lambda: listener.unsent_bytes,
            limits.queued_response_bytes_max,
        ),
    ]


def http_queues(protocol: str, listener: DataHttpListener | AdminHttpListener) -> list[Queue]:
    """The requests that an HTTP listener serves at this moment."""
    name = f"{protocol}_requests_for_answer"
    return [Queue(name, "items", lambda: listener.requests_open, REQUESTS_IN_FLIGHT_MAX)]
