"""The program of a pod with an application whose Kafka client is instrumented with OpenTelemetry: a producer or a consumer.

It does what stdin says, one JSON object a line, and answers each with a line on stdout: `{"send": ["order-1"]}` sends a
message for each key, one after the other, `{"receive": 2}` reads so many and commits them; both answer `{"offsets": […]}`.
`{"end": true}` closes the client and ends the program. What cannot be done is `{"failed": "sentence"}`, and the end.

The client and its instrumentation are as their users have them; the application's own spans are sent to the collector that
the brokers send theirs to, each as soon as it has ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from kafka_load import CLIENT_TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER_SECONDS_MAX = 90.0
"""How long a message, or a commit, is waited for: longer than a shard is without a leader."""
COMMIT_RETRY_SECONDS = 0.2


class ApplicationError(Exception):
    """What was asked for could not be done; the sentence says why."""


class Application(Protocol):
    """Does one thing at a time."""

    def do(self, command: dict[str, Any]) -> list[int]:
        """Offsets of the messages. Raises ApplicationError."""
        ...

    def end(self) -> None:
        """Closes the client."""
        ...


class ProducerApplication:
    """Sends each message in a batch of its own, and the next one once it is acknowledged."""

    def __init__(self, settings: dict[str, Any], topic: str, provider: TracerProvider) -> None:
        self._topic = topic
        plain = Producer({**settings, "acks": "all", "enable.idempotence": True, "linger.ms": 0})
        self._producer: Any = ConfluentKafkaInstrumentor.instrument_producer(plain, provider)

    def do(self, command: dict[str, Any]) -> list[int]:
        """See `Application`."""
        return [self._send(key) for key in command["send"]]

    def end(self) -> None:
        """See `Application`."""

    def _send(self, key: str) -> int:
        answers: list[tuple[Any, Any]] = []
        self._producer.produce(
            self._topic,
            value_of(key),
            key=key,
            headers=[("message-id", message_id_of(key).encode())],
            on_delivery=lambda error, message: answers.append((error, message)),
        )
        self._producer.flush(ANSWER_SECONDS_MAX)
        if not answers:
            raise ApplicationError(f"{key} was not acknowledged within {ANSWER_SECONDS_MAX:.0f} s")
        ((error, message),) = answers
        if error is not None:
            raise ApplicationError(f"{key} was not stored: {error}")
        return int(message.offset())


class ConsumerApplication:
    """Reads from the beginning, as a group of its own whose name is the client's, and commits after each request."""

    def __init__(self, settings: dict[str, Any], topic: str, provider: TracerProvider) -> None:
        self._plain = Consumer(
            {
                **settings,
                "group.id": settings["client.id"],
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self._consumer: Any = ConfluentKafkaInstrumentor.instrument_consumer(self._plain, provider)
        self._plain.subscribe([topic])

    def do(self, command: dict[str, Any]) -> list[int]:
        """See `Application`."""
        offsets = [self._read() for _ in range(command["receive"])]
        self._commit()
        return offsets

    def end(self) -> None:
        """See `Application`. What is worked on until now is done: the instrumentation ends its span."""
        self._consumer.close()

    def _read(self) -> int:
        message = self._consumer.poll(ANSWER_SECONDS_MAX)
        if message is None:
            raise ApplicationError(f"no message came within {ANSWER_SECONDS_MAX:.0f} s")
        if message.error() is not None:
            raise ApplicationError(f"the consumer was told {message.error()}")
        return int(message.offset())

    def _commit(self) -> None:
        """Commits. Another coordinator may have to be found: that may be tried again."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            try:
                self._plain.commit(asynchronous=False)
                return
            except KafkaException as error:
                reason = error.args[0]
                if not (isinstance(reason, KafkaError) and reason.retriable()) or time.monotonic() > deadline:
                    raise ApplicationError(f"the commit failed: {reason}") from error
            time.sleep(COMMIT_RETRY_SECONDS)


def value_of(key: str) -> str:
    """What the message of a key holds."""
    return f"value of {key}"


def message_id_of(key: str) -> str:
    """The header `message-id` of a key's message."""
    return f"id-{key}"


def work(application: Application, lines: Iterable[str]) -> int:
    """Does what is asked for, line by line; returns the exit code."""
    for line in lines:
        command = json.loads(line)
        if "end" in command:
            break
        try:
            _print({"offsets": application.do(command)})
        except ApplicationError as error:
            _print({"failed": str(error)})
            return 1
    application.end()
    _print({"ended": True})
    return 0


def _print(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("producer", "consumer"))
    parser.add_argument("name", help="of the service, the client and the consumer's group")
    parser.add_argument("--bootstrap", required=True, help="host:port of the cluster")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--collector", required=True, help="where spans go, by OTLP over HTTP")
    arguments = parser.parse_args()
    provider = TracerProvider(resource=Resource({"service.name": arguments.name}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{arguments.collector}/v1/traces")))
    # Errors of single connections go to stderr: the consumer must not be handed one in a message's place.
    settings = {
        "bootstrap.servers": arguments.bootstrap,
        "client.id": arguments.name,
        "error_cb": lambda error: print(error, file=sys.stderr, flush=True),
        **CLIENT_TIMEOUTS,
    }
    role = ProducerApplication if arguments.role == "producer" else ConsumerApplication
    return work(role(settings, arguments.topic, provider), sys.stdin)


if __name__ == "__main__":
    sys.exit(main())
