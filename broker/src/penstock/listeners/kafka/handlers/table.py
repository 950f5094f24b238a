"""Which function serves which API. A served API without a line here is a mistake that the import of this module finds."""

from __future__ import annotations

from penstock.codec.kafka.apis import APIS
from penstock.listeners.kafka.handlers.configs import (
    alter_configs,
    describe_configs,
    incremental_alter_configs,
    refuse_alter_configs,
    refuse_describe_configs,
    refuse_incremental_alter_configs,
)
from penstock.listeners.kafka.handlers.endpoint import Coroutine, Direct, Endpoint, Immediate
from penstock.listeners.kafka.handlers.fetch import finish_fetch, refuse_fetch, start_fetch
from penstock.listeners.kafka.handlers.group_admin import (
    delete_groups,
    describe_groups,
    list_groups,
    refuse_delete_groups,
    refuse_describe_groups,
    refuse_list_groups,
)
from penstock.listeners.kafka.handlers.groups import (
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    refuse_find_coordinator,
    refuse_heartbeat,
    refuse_join_group,
    refuse_leave_group,
    refuse_sync_group,
    sync_group,
)
from penstock.listeners.kafka.handlers.metadata import (
    describe_cluster,
    metadata,
    refuse_describe_cluster,
    refuse_metadata,
)
from penstock.listeners.kafka.handlers.offsets import (
    offset_commit,
    offset_delete,
    offset_fetch,
    refuse_offset_commit,
    refuse_offset_delete,
    refuse_offset_fetch,
)
from penstock.listeners.kafka.handlers.positions import (
    delete_records,
    list_offsets,
    offset_for_leader_epoch,
    refuse_delete_records,
    refuse_list_offsets,
    refuse_offset_for_leader_epoch,
)
from penstock.listeners.kafka.handlers.produce import finish_produce, refuse_produce, start_produce
from penstock.listeners.kafka.handlers.producers import init_producer_id, refuse_init_producer_id
from penstock.listeners.kafka.handlers.topics import (
    create_partitions,
    create_topics,
    delete_topics,
    refuse_create_partitions,
    refuse_create_topics,
    refuse_delete_topics,
)
from penstock.listeners.kafka.handlers.versions import api_versions, refuse_api_versions

ENDPOINTS: dict[int, Endpoint] = {
    0: Direct(start_produce, finish_produce, refuse_produce),
    1: Direct(start_fetch, finish_fetch, refuse_fetch),
    2: Coroutine(list_offsets, refuse_list_offsets),
    3: Coroutine(metadata, refuse_metadata),
    8: Coroutine(offset_commit, refuse_offset_commit),
    9: Coroutine(offset_fetch, refuse_offset_fetch),
    10: Coroutine(find_coordinator, refuse_find_coordinator),
    11: Coroutine(join_group, refuse_join_group),
    12: Coroutine(heartbeat, refuse_heartbeat),
    13: Coroutine(leave_group, refuse_leave_group),
    14: Coroutine(sync_group, refuse_sync_group),
    15: Coroutine(describe_groups, refuse_describe_groups),
    16: Coroutine(list_groups, refuse_list_groups),
    18: Immediate(api_versions, refuse_api_versions),
    19: Coroutine(create_topics, refuse_create_topics),
    20: Coroutine(delete_topics, refuse_delete_topics),
    21: Coroutine(delete_records, refuse_delete_records),
    22: Coroutine(init_producer_id, refuse_init_producer_id),
    23: Coroutine(offset_for_leader_epoch, refuse_offset_for_leader_epoch),
    32: Coroutine(describe_configs, refuse_describe_configs),
    33: Coroutine(alter_configs, refuse_alter_configs),
    37: Coroutine(create_partitions, refuse_create_partitions),
    42: Coroutine(delete_groups, refuse_delete_groups),
    44: Coroutine(incremental_alter_configs, refuse_incremental_alter_configs),
    47: Coroutine(offset_delete, refuse_offset_delete),
    60: Coroutine(describe_cluster, refuse_describe_cluster),
}
"""By API key."""

assert ENDPOINTS.keys() == APIS.keys(), sorted(ENDPOINTS.keys() ^ APIS.keys())
