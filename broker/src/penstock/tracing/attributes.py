"""Names of attributes, events and operations.

`MESSAGING_*`, `ERROR_TYPE` and the resource's names are those of OpenTelemetry's semantic conventions as of schema 1.44.0
(`SCHEMA_URL`). The messaging conventions are still in development and libraries move their constants, so the names stand
here, and a test holds them against the library's. What no convention has begins with `penstock.`.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "penstock"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_DESTINATION_PARTITION_ID: Final = "messaging.destination.partition.id"
MESSAGING_CONSUMER_GROUP_NAME: Final = "messaging.consumer.group.name"
MESSAGING_CLIENT_ID: Final = "messaging.client.id"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_MESSAGE_ENVELOPE_SIZE: Final = "messaging.message.envelope.size"
MESSAGING_BATCH_MESSAGE_COUNT: Final = "messaging.batch.message_count"
MESSAGING_KAFKA_OFFSET: Final = "messaging.kafka.offset"
MESSAGING_KAFKA_MESSAGE_KEY: Final = "messaging.kafka.message.key"
ERROR_TYPE: Final = "error.type"

SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
SERVICE_VERSION: Final = "service.version"
K8S_POD_NAME: Final = "k8s.pod.name"
PENSTOCK_CLUSTER: Final = "penstock.cluster"
PENSTOCK_SHARD: Final = "penstock.shard"

PENSTOCK_EPOCH: Final = "penstock.epoch"
PENSTOCK_LAST_OFFSET: Final = "penstock.last_offset"
PENSTOCK_COMMITTED_OFFSET: Final = "penstock.committed_offset"
PENSTOCK_LOG_INDEX: Final = "penstock.log.index"
PENSTOCK_ACKS: Final = "penstock.acks"
PENSTOCK_PROTOCOL: Final = "penstock.protocol"
PENSTOCK_IN_SYNC: Final = "penstock.members_in_sync"
PENSTOCK_MEMBER: Final = "penstock.member"
PENSTOCK_MESSAGE: Final = "penstock.message"

# The system whose clients and offsets these are: what is said of a batch is said in Kafka's words.
SYSTEM_KAFKA: Final = "kafka"

RECEIVE: Final = "receive"
APPEND: Final = "append"
REPLICATE: Final = "replicate"
DELIVER: Final = "deliver"
SETTLE: Final = "settle"

# By what the client asked for: the broker receives what a client sends, and delivers what a client receives.
OPERATION_TYPES: Final = {RECEIVE: "send", DELIVER: "receive", SETTLE: "settle"}

EVENT_REFUSED: Final = "penstock.refused"
EVENT_THROTTLED: Final = "penstock.throttled"
EVENT_REPEATED: Final = "penstock.repeated"
EVENT_FAILOVER: Final = "penstock.failover"
EVENT_ABANDONED: Final = "penstock.abandoned"
