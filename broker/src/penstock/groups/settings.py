"""The bounds and times of consumer groups.

One frozen struct, because a group, its driver and the commit rule all need the same numbers. Kafka's names where Kafka
has one. The broker's configuration fills it; nothing here reads configuration.
"""

from __future__ import annotations

import msgspec


class GroupSettings(msgspec.Struct, frozen=True):
    """Settings of all groups; times in ms, sizes in bytes."""

    session_timeout_ms_min: int = 6_000
    """group.min.session.timeout.ms: a shorter session is refused with INVALID_SESSION_TIMEOUT."""
    session_timeout_ms_max: int = 1_800_000
    """group.max.session.timeout.ms."""
    initial_rebalance_delay_ms: int = 500
    """group.initial.rebalance.delay.ms: how long an empty group waits for more members before its first generation."""
    members_max: int = 1_000
    """group.max.size: more members are refused with GROUP_MAX_SIZE_REACHED."""
    pending_members_max: int = 1_000
    """Member ids handed out that have not joined yet (KIP-394); more are told to try again later."""
    groups_max: int = 50_000
    """Groups of one shard, of each kind: live, with positions, declared; more are refused with POLICY_VIOLATION."""
    new_member_join_timeout_ms: int = 300_000
    """How long a new member may wait in its first JoinGroup before it counts as gone (KAFKA-4285)."""
    save_retry_ms: int = 5_000
    """When to try again to record that a group became empty."""
    group_id_bytes_max: int = 512
    """A longer group id is refused with INVALID_GROUP_ID."""
    client_id_length_max: int = 200
    """How much of a client id becomes part of a member id."""
    protocols_per_member_max: int = 64
    """Assignment protocols that one member may offer; more are refused with INCONSISTENT_GROUP_PROTOCOL."""
    group_bytes_max: int = 8 * 1024 * 1024
    """Subscriptions of all members together, and assignments together: what one log entry may carry of each."""
    offset_metadata_bytes_max: int = 4_096
    """offset.metadata.max.bytes: a longer note on a position is refused with OFFSET_METADATA_TOO_LARGE."""
    offsets_retention_ms: int = 7 * 24 * 3_600_000
    """offsets.retention.minutes; -1 keeps positions for ever."""
    offsets_retention_check_interval_ms: int = 600_000
    """offsets.retention.check.interval.ms: how often groups are searched for expired positions."""
