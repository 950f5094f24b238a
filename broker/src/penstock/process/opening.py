"""Opening a broker's data folder: as the member that it is, or as a new one where the old one has forgotten."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Callable, Sequence

import msgspec

from penstock import __version__
from penstock.config.broker_config import BrokerConfig
from penstock.log.errors import LogDamagedError
from penstock.log.recovery import LogOptions
from penstock.model.commands import StateMachine
from penstock.replication.features import FEATURE_LEVEL
from penstock.replication.forgetting import why_forgotten
from penstock.replication.members import member_id
from penstock.runtime.data_folder import DataFolder, Meta, claim
from penstock.runtime.forgetting import (
    boot_id,
    failed_sync_boot,
    finish_forgetting,
    start_over,
    why_diverged,
)
from penstock.runtime.links import Address
from penstock.runtime.opening import OpenedShard, ShardOptions, open_shard
from penstock.runtime.threads import Threads
from penstock.session.peer_connection import Greeting
from penstock.telemetry.counters import Counters
from penstock.telemetry.logs import fields

logger = logging.getLogger(__name__)


def broker_name(config: BrokerConfig, meta: Meta) -> str:
    """As configured, or made of cluster, shard and ordinal."""
    return config.text("broker.name") or f"{config.text('cluster.name')}-{meta.shard_id}-{meta.ordinal}"


def other_peers(config: BrokerConfig, meta: Meta) -> dict[int, Address]:
    """Where the shard's other brokers are, by ordinal."""
    return {number: address for number, address in config.peers.items() if number != meta.ordinal}


class MemberOpening:
    """See the module's text."""

    def __init__(
        self,
        config: BrokerConfig,
        folder: DataFolder,
        threads: Threads,
        counters: Counters,
        machines: Sequence[StateMachine],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.config = config
        self._folder = folder
        self._threads = threads
        self._counters = counters
        self._machines = machines
        self._on_fatal = on_fatal

    async def open(self) -> OpenedShard:
        """Raises DataFolderError and LogDamagedError with a sentence."""
        config = self.config
        meta = claim(
            self._folder,
            cluster_id=config.text("cluster.id"),
            shard_id=config.integer("shard.id"),
            shard_uid=config.text("shard.uid"),
            ordinal=config.integer("broker.ordinal"),
            new_cluster_id=new_cluster_id(),
        )
        if meta.forgotten:
            meta = finish_forgetting(self._folder, meta)
        boot = boot_id()
        others = other_peers(config, meta)
        reason = why_forgotten(
            running_boot=meta.running_boot, failed_boot=failed_sync_boot(config.data), boot=boot
        ) or why_diverged(config.data)
        running = msgspec.structs.replace(
            meta, running_boot="" if config.text("flush.policy") == "sync" else boot
        )
        if reason is None or not others or config.value("shard.trust.storage"):
            # Alone, or where a person says so, what is on the disk is all there is.
            try:
                return self._open(running)
            except LogDamagedError as error:
                if not others:
                    raise  # Nobody could send it again.
                reason = str(error)
        fresh = await start_over(self._folder, meta, others, self._stranger_greeting, reason)
        return self._open(msgspec.structs.replace(fresh, running_boot=running.running_boot))

    def _stranger_greeting(self, meta: Meta) -> Greeting:
        """Of a member that knows nothing yet."""
        return Greeting(
            cluster_id=meta.cluster_id,
            shard_id=meta.shard_id,
            shard_uid=str(meta.shard_uid),
            ordinal=meta.ordinal,
            member=member_id(meta.storage_id),
            storage_id=str(meta.storage_id),
            name=broker_name(self.config, meta),
            release=__version__,
            feature_level=FEATURE_LEVEL,
            founded=False,
        )

    def _open(self, meta: Meta) -> OpenedShard:
        config = self.config
        options = ShardOptions(
            LogOptions(
                segment_bytes=config.integer("log.segment.bytes"),
                cache_bytes_max=config.integer("log.cache.bytes"),
                sync=config.text("flush.policy") == "sync",
            ),
            index_cache_bytes_max=config.integer("log.index.cache.bytes"),
            pending_bytes_max=config.integer("log.pending.bytes.max"),
            uncommitted_bytes_max=config.integer("log.uncommitted.bytes.max"),
        )
        opened = open_shard(
            self._folder, meta, options, self._threads, self._counters, self._machines, self._on_fatal
        )
        for sentence in opened.report.sentences:
            logger.warning("recovery: %s", sentence)
        logger.info(
            "log opened",
            extra=fields(
                first=opened.shard.log.first_index,
                last=opened.shard.log.next_index - 1,
                epoch=opened.meta.epoch,
                entries_read=opened.report.entries_read,
            ),
        )
        return opened


def new_cluster_id() -> str:
    """22 characters, as Kafka makes its cluster ids."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
