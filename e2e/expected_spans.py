"""The spans that messages should have left at a collector, as docs/tracing.md promises them, written down row by row.

What happened is told in `Sent` and `Read`: which message was received by whom in which epoch, and who read what from whom.
From that every span follows, the applications' and the brokers', and nothing else may have come, but for what `allowed` says
of messages that were sent while nobody led.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock import __version__
from penstock.codec.records import Record, build_batch
from pod_traced import message_id_of, value_of
from span_rows import BROKER, OneOf, Row, Text, Whole

PRODUCER = "shop"
TRACEPARENT_BYTES = 55
TRIES_MAX = 100
"""Tries of one message that brokers may refuse: a client that waits a second between them, and a shard without a leader
for more than a minute."""
REFUSALS = ("NOT_LEADER_OR_FOLLOWER", "LEADER_NOT_AVAILABLE", "NOT_ENOUGH_REPLICAS")
"""What a producer may be told while a leader is missing, or alone. It tries again."""


@dataclass(frozen=True)
class Led:
    """Who led, and since which epoch."""

    broker: str
    epoch: int


@dataclass(frozen=True)
class Sent:
    """A message in a batch of its own. `leaderless`: it was sent while nobody led."""

    key: str
    offset: int
    led: Led
    leaderless: bool = False


@dataclass(frozen=True)
class Read:
    """A consumer read these messages from a leader and committed them."""

    client: str
    messages: tuple[Sent, ...]
    led: Led


@dataclass(frozen=True)
class Expected:
    """The rows of a topic's messages. `pods`: the brokers are pods of Kubernetes."""

    topic: str
    cluster: str
    brokers: tuple[str, ...]
    pods: bool = True

    def rows(self, sent: Sequence[Sent], reads: Sequence[Read]) -> dict[str, Row]:
        """What must have come, once."""
        found: dict[str, Row] = {}
        for message in sent:
            found |= self._of_message(message)
        for read in reads:
            for message in read.messages:
                found |= self._of_reading(message, read)
            # A commit covers all, and is told of the newest.
            last = max(read.messages, key=lambda message: message.offset)
            found[f"{last.key} settle to {read.client}"] = self._settle(last, read)
        return found

    def allowed(self, sent: Sequence[Sent], reads: Sequence[Read]) -> dict[str, tuple[int, Row]]:
        """What may have come beside it, at most so many times."""
        found: dict[str, tuple[int, Row]] = {}
        read_ones = {message for read in reads for message in read.messages}
        for message in sent:
            if message.leaderless:
                found[f"{message.key} refused"] = TRIES_MAX, self._refused(message)
            if message not in read_ones:
                # A fetch may have waited for more when its consumer was closed, and is answered all the same.
                for read in reads:
                    found[f"{message.key} deliver to {read.client}"] = 1, self._deliver(message, read)
        return found

    def _of_message(self, message: Sent) -> dict[str, Row]:
        key, below = message.key, f"{message.key} receive"
        common = self._common(message) | self._place(message)
        resource = self._resource(message.led.broker)
        receive = common | self._asked() | {"penstock.log.index": Whole(1)}
        append = common | {"messaging.operation.name": "append"}
        replicate = common | {
            "messaging.operation.name": "replicate",
            "penstock.members_in_sync": self._in_sync(message),
        }
        return {
            f"{key} send": Row(
                f"{self.topic} send",
                "PRODUCER",
                key,
                "",
                attributes=self._instrumented("publish"),
                resource={"service.name": PRODUCER},
            ),
            below: Row(
                f"receive {self.topic}",
                "SERVER",
                key,
                f"{key} send",
                attributes=receive,
                resource=resource,
            ),
            f"{key} append": Row(
                f"append {self.topic}", "INTERNAL", key, below, attributes=append, resource=resource
            ),
            f"{key} replicate": Row(
                f"replicate {self.topic}", "INTERNAL", key, below, attributes=replicate, resource=resource
            ),
        }

    def _of_reading(self, message: Sent, read: Read) -> dict[str, Row]:
        key, client = message.key, read.client
        came = f"{key} recv by {client}"
        application: dict[str, object] = {"service.name": client}
        processed = self._instrumented("process") | {
            "messaging.kafka.partition": 0,
            "messaging.message.id": f"{self.topic}.0.{message.offset}",
        }
        return {
            f"{key} deliver to {client}": self._deliver(message, read),
            # The instrumentation begins a trace of its own, and links it.
            came: Row("recv", "CONSUMER", came, "", resource=application),
            f"{key} process by {client}": Row(
                f"{self.topic} process",
                "CONSUMER",
                came,
                came,
                [f"{key} send"],
                attributes=processed,
                resource=application,
            ),
        }

    def _deliver(self, message: Sent, read: Read) -> Row:
        return self._read(message, read, "deliver", "receive", {})

    def _settle(self, message: Sent, read: Read) -> Row:
        more: dict[str, object] = {
            "messaging.consumer.group.name": read.client,
            "penstock.committed_offset": message.offset + 1,
            "penstock.member": Text(f"{read.client}-"),
        }
        return self._read(message, read, "settle", "settle", more)

    def _read(self, message: Sent, read: Read, name: str, type_: str, more: dict[str, object]) -> Row:
        """A span that a consumer caused: below the `receive` of whoever led when the message was sent."""
        attributes = {
            **self._common(message),
            **self._place(message),
            "messaging.operation.name": name,
            "messaging.operation.type": type_,
            "messaging.client.id": read.client,
            "penstock.protocol": "kafka",
            **more,
        }
        return Row(
            f"{name} {self.topic}",
            "SERVER",
            message.key,
            f"{message.key} receive",
            [f"{message.key} send"],
            attributes=attributes,
            resource=self._resource(read.led.broker),
        )

    def _refused(self, message: Sent) -> Row:
        said: dict[str, object] = {"error.type": OneOf(*REFUSALS), "penstock.message": Text()}
        return Row(
            f"receive {self.topic}",
            "SERVER",
            message.key,
            f"{message.key} send",
            error=Text(),
            events=[("penstock.refused", said)],
            attributes={**self._common(message), **self._asked(), "error.type": OneOf(*REFUSALS)},
            resource=self._resource(*self.brokers),
        )

    def _in_sync(self, message: Sent) -> OneOf:
        """Copies that may be in sync at the commit: more than half of a whole shard, and all but the one that was killed."""
        replicas = len(self.brokers)
        least = replicas - 1 if message.leaderless else replicas // 2 + 1
        return OneOf(*range(least, replicas + 1))

    def _common(self, message: Sent) -> dict[str, object]:
        return {
            "messaging.system": "kafka",
            "messaging.destination.name": self.topic,
            "messaging.destination.partition.id": "0",
            "messaging.batch.message_count": 1,
            "messaging.message.envelope.size": envelope_bytes(message.key),
            "messaging.message.id": message_id_of(message.key),
            "messaging.kafka.message.key": message.key,
            "penstock.shard": 0,
        }

    def _place(self, message: Sent) -> dict[str, object]:
        return {
            "messaging.kafka.offset": message.offset,
            "penstock.last_offset": message.offset,
            "penstock.epoch": message.led.epoch,
        }

    def _asked(self) -> dict[str, object]:
        return {
            "messaging.operation.name": "receive",
            "messaging.operation.type": "send",
            "messaging.client.id": PRODUCER,
            "penstock.protocol": "kafka",
            "penstock.acks": -1,
        }

    def _instrumented(self, operation: str) -> dict[str, object]:
        """What the client's instrumentation says, in the words of the conventions as it knows them."""
        return {
            "messaging.system": "kafka",
            "messaging.destination": self.topic,
            "messaging.destination_kind": "queue",
            "messaging.operation": operation,
        }

    def _resource(self, *brokers: str) -> dict[str, object]:
        broker = brokers[0] if len(brokers) == 1 else OneOf(*brokers)
        return {
            "service.name": BROKER,
            "service.namespace": self.cluster,
            "service.instance.id": broker,
            "service.version": __version__,
            "penstock.cluster": self.cluster,
            "penstock.shard": 0,
            **({"k8s.pod.name": broker} if self.pods else {}),
        }


def envelope_bytes(key: str) -> int:
    """Bytes of the batch that a message with a context makes."""
    headers = (("message-id", message_id_of(key).encode()), ("traceparent", bytes(TRACEPARENT_BYTES)))
    return len(build_batch([Record(key.encode(), value_of(key).encode(), 0, headers)]))
