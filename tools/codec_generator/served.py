"""What the broker serves: one line per API. To serve another API or version, change this table and run the generator."""

from typing import NamedTuple

KAFKA_CLIENTS_VERSION = "4.3.1"


class Served(NamedTuple):
    """An API with the versions that are advertised, both ends included.

    Versions older than the schema's first are advertised but not generated; the listener answers them with UNSUPPORTED_VERSION.
    """

    name: str
    minimum: int
    maximum: int


APIS = (
    Served("Produce", 0, 11),  # From 0, because librdkafka drops compression when 0 is missing (KAFKA-18659).
    Served("Fetch", 4, 12),
    Served("ListOffsets", 1, 7),
    Served("Metadata", 0, 12),
    Served("OffsetCommit", 2, 9),
    Served("OffsetFetch", 1, 9),
    Served("FindCoordinator", 0, 6),
    Served("JoinGroup", 0, 9),
    Served("Heartbeat", 0, 4),
    Served("LeaveGroup", 0, 5),
    Served("SyncGroup", 0, 5),
    Served("DescribeGroups", 0, 5),
    Served("ListGroups", 0, 5),
    Served("ApiVersions", 0, 4),
    Served("CreateTopics", 2, 7),
    Served("DeleteTopics", 1, 6),
    Served("DeleteRecords", 0, 2),
    Served("InitProducerId", 0, 4),
    Served("OffsetForLeaderEpoch", 2, 4),
    Served("DescribeConfigs", 1, 4),
    Served("AlterConfigs", 0, 2),
    Served("CreatePartitions", 0, 3),
    Served("DeleteGroups", 0, 2),
    Served("IncrementalAlterConfigs", 0, 1),
    Served("OffsetDelete", 0, 0),
    Served("DescribeCluster", 0, 1),
)

# Messages that travel inside bytes fields of others: what group members tell each other through the coordinator.
DATA = (
    Served("ConsumerProtocolSubscription", 0, 3),
    Served("ConsumerProtocolAssignment", 0, 3),
)
