"""The broker itself: who it is, how it is, and whether clients may be sent here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from penstock.runtime.clock import Clock
from penstock.runtime.maintenance import Maintenance
from penstock.runtime.shard import Shard
from penstock.service.api import BrokerStatus
from penstock.telemetry.counters import Counters

# Rates are taken over about this many seconds.
RATE_WINDOW_MS = 5_000
_SAMPLES_MAX = 16


class Identity(msgspec.Struct, frozen=True):
    """What does not change while the broker runs."""

    cluster_id: str
    cluster_name: str
    name: str
    node_id: int
    shard_id: int
    shard_uid: str
    storage_id: str
    version: str
    started_at_ms: int


class BrokerServiceImpl:
    """Implements `penstock.service.api.BrokerService`. `sample` is called about once a second for the rates."""

    def __init__(
        self,
        identity: Identity,
        shard: Shard,
        maintenance: Maintenance,
        counters: Counters,
        clock: Clock,
        listeners: Callable[[], Sequence[tuple[str, str, str, str]]],
    ) -> None:
        self._identity = identity
        self._shard = shard
        self._maintenance = maintenance
        self._counters = counters
        self._clock = clock
        self._listeners = listeners
        self._samples: deque[tuple[int, int, int, int]] = deque(maxlen=_SAMPLES_MAX)
        self.starting = True
        self.stopping = False

    def sample(self) -> None:
        """Notes the counters, so that `status` can tell rates."""
        protocols = self._counters.copy().protocols.values()
        self._samples.append(
            (
                self._clock.monotonic_ms(),
                self._counters.messages_in,
                sum(protocol.bytes_in for protocol in protocols),
                sum(protocol.bytes_out for protocol in protocols),
            )
        )
        while len(self._samples) > 2 and self._samples[-1][0] - self._samples[0][0] > RATE_WINDOW_MS:
            self._samples.popleft()

    def _rates(self) -> tuple[float, float, float]:
        if len(self._samples) < 2:
            return 0.0, 0.0, 0.0
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last[0] - first[0], 1) / 1000
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds, (last[3] - first[3]) / seconds

    def status(self) -> BrokerStatus:
        """See `BrokerService.status`."""
        identity, log, disk = self._identity, self._shard.log, self._maintenance.disk
        messages, bytes_in, bytes_out = self._rates()
        return BrokerStatus(
            cluster_id=identity.cluster_id,
            cluster_name=identity.cluster_name,
            name=identity.name,
            node_id=identity.node_id,
            shard_id=identity.shard_id,
            shard_uid=identity.shard_uid,
            storage_id=identity.storage_id,
            version=identity.version,
            epoch=self._shard.epoch,
            started_at_ms=identity.started_at_ms,
            listeners=list(self._listeners()),
            log_first_index=log.first_index,
            log_last_index=log.next_index - 1,
            log_commit_index=self._shard.commit_index,
            log_bytes=log.size_bytes,
            disk_total_bytes=disk.total_bytes,
            disk_used_bytes=disk.used_bytes,
            disk_state=disk.state,
            messages_in_per_second=messages,
            bytes_in_per_second=bytes_in,
            bytes_out_per_second=bytes_out,
        )

    def not_ready_reasons(self) -> list[str]:
        """See `BrokerService.not_ready_reasons`. A full disk is none: consume goes on; /v1/broker shows it."""
        reasons = []
        if self.starting:
            reasons.append("the broker is starting")
        if self.stopping:
            reasons.append("the broker is stopping")
        return reasons
