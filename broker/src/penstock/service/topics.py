"""Topics, metadata and configuration: decisions of the catalog, proposed to the log, answered when committed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from penstock.catalog.partitions import PartitionsDropped, opened
from penstock.catalog.placement import partition_states
from penstock.catalog.topics import (
    Catalog,
    ClusterConfigured,
    PartitionsAdded,
    Topic,
    TopicConfigured,
    TopicCreated,
    TopicDeleted,
)
from penstock.config.broker_options import BROKER_OPTIONS
from penstock.config.options import OptionError, OptionTable
from penstock.config.topic_options import OWN_TOPICS, TOPIC_OPTIONS
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard
from penstock.service.api import (
    ClusterMetadata,
    ConfigEntry,
    ConfigOperation,
    NewTopic,
    PartitionMetadata,
    TopicMetadata,
    TopicOutcome,
    TopicPartitionDetail,
    TopicSummary,
)
from penstock.service.cluster import NO_NODE, ClusterView
from penstock.service.context import RequestContext
from penstock.service.settings import Settings
from penstock.session.producers import PartitionProducersDropped

PARTITIONS_PER_TOPIC_MAX = 10_000
PARTITIONS_MAX = 100_000
# Partitions that one request makes before others get their turn.
PARTITIONS_PER_TURN_MAX = 5_000


class BrokerIdentity(msgspec.Struct):
    """Who answers. `replicas` tells how many brokers the shard is to have."""

    cluster_id: str
    name: str
    replicas: Callable[[], int]
    view: ClusterView


class TopicServiceImpl:
    """Implements `penstock.service.api.TopicService` on one shard."""

    def __init__(self, shard: Shard, settings: Settings, clock: Clock, identity: BrokerIdentity) -> None:
        self._shard = shard
        self._settings = settings
        self._clock = clock
        self._identity = identity
        # Told of topics that are gone, after the fact; the groups drop their positions.
        self.on_topic_deleted: Callable[[str], Awaitable[None]] = _ignore
        # Commands of others that belong to the end of a topic.
        self.goes_with_topic: Callable[[str], list[Command]] = lambda name: []
        # Told after dynamic settings changed.
        self.on_settings_changed: Callable[[], None] = lambda: None

    @property
    def _catalog(self) -> Catalog:
        return self._shard.machines.catalog

    # --- metadata --------------------------------------------------------------------------------

    def knows(self, name: str) -> bool:
        """See `TopicService.knows`."""
        return name in self._catalog.topics.committed

    async def metadata(
        self,
        context: RequestContext,
        topics: Sequence[str] | None,
        *,
        topic_ids: Sequence[bytes] = (),
        allow_auto_create: bool = False,
    ) -> ClusterMetadata:
        """See `TopicService.metadata`. In the middle of an election it waits for its end: clients that are told of no leader,
        or of one that does not serve yet, come again only after a pause."""
        view = self._identity.view
        if topics is None or topics or topic_ids:
            await view.until_settled()
        if topics is None and not topic_ids:
            found = [self._describe(topic) for topic in self._catalog.topics.committed.values()]
        else:
            found = [await self._named(name, create=allow_auto_create) for name in topics or ()]
            found.extend(self._by_id(topic_id) for topic_id in topic_ids)
        return ClusterMetadata(
            cluster_id=self._identity.cluster_id,
            controller_id=view.leader_node(),
            brokers=view.brokers(context.listener),
            topics=found,
        )

    async def _named(self, name: str, *, create: bool) -> TopicMetadata:
        topic = self._catalog.topics.committed.get(name)
        if topic is not None:
            return self._describe(topic)
        try:
            if create and name not in OWN_TOPICS and self._settings.broker("auto.create.topics.enable"):
                await self._create([NewTopic(name)])
                return self._describe(self._catalog.topics.committed[name])
            self._catalog.require(name)
        except PenstockError as error:
            if error.code is ErrorCode.TOPIC_ALREADY_EXISTS:
                # Two clients asked at once; the other one's is being committed.
                return TopicMetadata(name, error=ErrorCode.LEADER_NOT_AVAILABLE)
            return TopicMetadata(name, error=error.code, message=error.sentence)
        return TopicMetadata(name, error=ErrorCode.LEADER_NOT_AVAILABLE)

    def _by_id(self, topic_id: bytes) -> TopicMetadata:
        name = self._catalog.topic_names.committed.get(topic_id)
        topic = self._catalog.topics.committed.get(name) if name is not None else None
        if topic is None:
            return TopicMetadata("", topic_id, ErrorCode.UNKNOWN_TOPIC_ID)
        return self._describe(topic)

    def _describe(self, topic: Topic) -> TopicMetadata:
        view = self._identity.view
        leader, replicas, in_sync = view.leader_node(), view.replica_nodes(), view.in_sync_nodes()
        error = ErrorCode.NONE if leader != NO_NODE else ErrorCode.LEADER_NOT_AVAILABLE
        offline = [node for node in replicas if node not in in_sync]
        return TopicMetadata(
            topic.name,
            topic.topic_id,
            internal=topic.internal,
            partitions=[
                PartitionMetadata(
                    number,
                    leader,
                    place.epoch_base + self._shard.epoch,
                    replicas,
                    in_sync,
                    error,
                    offline,
                )
                for number, place in enumerate(topic.partitions)
            ],
        )

    # --- creating, deleting, growing -------------------------------------------------------------

    async def create_topics(
        self, context: RequestContext, topics: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """See `TopicService.create_topics`."""
        return await self._create(topics, validate_only=validate_only, raising=False)

    async def _create(
        self, topics: Sequence[NewTopic], *, validate_only: bool = False, raising: bool = True
    ) -> list[TopicOutcome]:
        outcomes: list[TopicOutcome] = []
        waits = []
        unawaited = 0
        seen: set[str] = set()
        for new in topics:
            try:
                if new.name in seen:
                    raise PenstockError(
                        ErrorCode.INVALID_REQUEST, f"topic {new.name} is named twice in one request"
                    )
                seen.add(new.name)
                created = self._decide_create(new)
                if not validate_only:
                    waits.append(self._shard.propose([created, *opened(partition_states(created.topic))]))
                    unawaited += len(created.topic.partitions)
                outcomes.append(self._created_outcome(created.topic))
            except PenstockError as error:
                if raising:
                    raise
                outcomes.append(TopicOutcome(new.name, error.code, error.sentence))
            if unawaited >= PARTITIONS_PER_TURN_MAX:
                # Others get their turn before the next topics are made.
                await waits[-1]
                unawaited = 0
        for wait in waits:
            await wait
        return outcomes

    def make_own(self, name: str) -> asyncio.Future[None]:
        """Makes one of the broker's own topics, with one partition; done when it is committed. Raises PenstockError."""
        created = self._catalog.decide_create(name, os.urandom(16), 1, {}, self._clock.now_ms())
        return self._shard.propose([created, *opened(partition_states(created.topic))])

    def _decide_create(self, new: NewTopic) -> TopicCreated:
        _check_not_own(new.name)
        config = _checked(
            TOPIC_OPTIONS, {name: value for name, value in new.config.items() if value is not None}
        )
        partitions = self._partition_count(new)
        self._check_shard_room(partitions)
        replicas = self._identity.replicas()
        if (
            not new.assignments
            and new.replication_factor != -1
            and not 1 <= new.replication_factor <= replicas
        ):
            raise PenstockError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"replication factor {new.replication_factor} is not possible: the cluster has {replicas} broker(s);"
                " leave it out or use -1",
            )
        return self._catalog.decide_create(new.name, os.urandom(16), partitions, config, self._clock.now_ms())

    def _partition_count(self, new: NewTopic) -> int:
        if new.assignments:
            if sorted(new.assignments) != list(range(len(new.assignments))):
                raise PenstockError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    "assignments must name partitions 0, 1, 2 … without a gap",
                )
            brokers = self._identity.view.replica_nodes()
            if any(not nodes or not {*nodes} <= {*brokers} for nodes in new.assignments.values()):
                raise PenstockError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    f"the brokers are {', '.join(map(str, brokers))}; leave assignments out, because every broker of a"
                    " shard keeps all of its partitions",
                )
            return len(new.assignments)
        count = self._settings.integer("num.partitions") if new.partitions == -1 else new.partitions
        if not 1 <= count <= PARTITIONS_PER_TOPIC_MAX:
            raise PenstockError(
                ErrorCode.INVALID_PARTITIONS,
                f"a topic has 1 to {PARTITIONS_PER_TOPIC_MAX} partitions, not {count}",
            )
        return count

    def _check_shard_room(self, more: int) -> None:
        states = self._shard.machines.partitions.states
        # What is staged counts too, or one request could ask for any number.
        if len(states.committed) + states.staged_count + more > PARTITIONS_MAX:
            raise PenstockError(
                ErrorCode.INVALID_PARTITIONS,
                f"a shard keeps at most {PARTITIONS_MAX} partitions: {more} more are too many",
            )

    def _created_outcome(self, topic: Topic) -> TopicOutcome:
        return TopicOutcome(
            topic.name,
            topic_id=topic.topic_id,
            partitions=len(topic.partitions),
            replication_factor=self._identity.replicas(),
            config=self._settings.describe_topic(topic.name, topic.config),
        )

    async def delete_topics(
        self, context: RequestContext, names: Sequence[str], topic_ids: Sequence[bytes] = ()
    ) -> list[TopicOutcome]:
        """See `TopicService.delete_topics`."""
        outcomes: list[TopicOutcome] = []
        waits = []
        for name in names:
            try:
                waits.append(self._shard.propose(self._decide_delete(name)))
                outcomes.append(TopicOutcome(name))
            except PenstockError as error:
                outcomes.append(TopicOutcome(name, error.code, error.sentence))
        for topic_id in topic_ids:
            known = self._catalog.topic_names.get(topic_id)
            if known is None:
                outcomes.append(
                    TopicOutcome(None, ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id", topic_id)
                )
                continue
            try:
                waits.append(self._shard.propose(self._decide_delete(known)))
                outcomes.append(TopicOutcome(known, topic_id=topic_id))
            except PenstockError as error:
                outcomes.append(TopicOutcome(known, error.code, error.sentence, topic_id))
        for wait in waits:
            await wait
        for outcome in outcomes:
            if outcome.error is ErrorCode.NONE and outcome.name is not None:
                await self.on_topic_deleted(outcome.name)
        return outcomes

    def _decide_delete(self, name: str) -> list[Command]:
        topic = self._catalog.require(name)
        keys = tuple(place.key for place in topic.partitions)
        return [
            TopicDeleted(name),
            PartitionsDropped(keys),
            PartitionProducersDropped(keys),
            *self.goes_with_topic(name),
        ]

    async def create_partitions(
        self, context: RequestContext, counts: Sequence[tuple[str, int]], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """See `TopicService.create_partitions`."""
        outcomes: list[TopicOutcome] = []
        waits = []
        for name, count in counts:
            try:
                if count > PARTITIONS_PER_TOPIC_MAX:
                    raise PenstockError(
                        ErrorCode.INVALID_PARTITIONS,
                        f"a topic has at most {PARTITIONS_PER_TOPIC_MAX} partitions",
                    )
                _check_not_own(name)
                added = self._catalog.decide_grow(name, count)
                self._check_shard_room(count - len(self._catalog.require(name).partitions))
                if not validate_only:
                    waits.append(self._shard.propose(self._growth(added)))
                outcomes.append(TopicOutcome(name, partitions=count))
            except PenstockError as error:
                outcomes.append(TopicOutcome(name, error.code, error.sentence))
        for wait in waits:
            await wait
        return outcomes

    def _growth(self, added: PartitionsAdded) -> list[Command]:
        topic = self._catalog.require(added.name)
        grown = msgspec.structs.replace(topic, partitions=added.partitions)
        return [added, *opened(partition_states(grown, len(topic.partitions)))]

    # --- descriptions ----------------------------------------------------------------------------

    def list_topics(self, context: RequestContext) -> list[TopicSummary]:
        """See `TopicService.list_topics`."""
        return [self._summary(topic) for _, topic in sorted(self._catalog.topics.committed.items())]

    def _summary(self, topic: Topic) -> TopicSummary:
        messages = size = 0
        for place in topic.partitions:
            partition = self._shard.table.by_key.get(place.key)
            if partition is not None:
                messages += partition.high_watermark - partition.log_start
                size += partition.size_bytes
        return TopicSummary(
            topic.name,
            topic.topic_id,
            len(topic.partitions),
            dict(topic.config),
            topic.internal,
            messages,
            size,
        )

    def describe_topic(
        self, context: RequestContext, name: str
    ) -> tuple[TopicSummary, list[TopicPartitionDetail], list[ConfigEntry]]:
        """See `TopicService.describe_topic`."""
        topic = self._catalog.require(name)
        details = []
        for number, place in enumerate(topic.partitions):
            partition = self._shard.table.by_key.get(place.key)
            if partition is None:
                continue
            details.append(
                TopicPartitionDetail(
                    number,
                    partition.log_start,
                    partition.high_watermark,
                    partition.size_bytes,
                    self._identity.view.leader_name() or self._identity.name,
                    place.epoch_base + self._shard.epoch,
                )
            )
        return self._summary(topic), details, self._settings.describe_topic(topic.name, topic.config)

    def describe_topic_config(self, context: RequestContext, name: str) -> list[ConfigEntry]:
        """See `TopicService.describe_topic_config`."""
        return self._settings.describe_topic(name, self._catalog.require(name).config)

    def describe_broker_config(self, context: RequestContext) -> list[ConfigEntry]:
        """See `TopicService.describe_broker_config`."""
        return self._settings.describe_broker()

    # --- configuration ---------------------------------------------------------------------------

    async def alter_topic_config(
        self,
        context: RequestContext,
        name: str,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """See `TopicService.alter_topic_config`."""
        topic = self._catalog.require(name)
        config = _altered(TOPIC_OPTIONS, {} if replace else topic.config, operations)
        if not validate_only and config != topic.config:
            await self._shard.propose([TopicConfigured(name, config)])

    async def alter_broker_config(
        self,
        context: RequestContext,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """See `TopicService.alter_broker_config`."""
        for operation in operations:
            option = BROKER_OPTIONS.options.get(operation.name)
            if option is not None and not option.dynamic:
                raise PenstockError(
                    ErrorCode.INVALID_CONFIG,
                    f"{operation.name} needs a restart: set it in the configuration file",
                )
        current = {} if replace else dict(self._catalog.cluster_config)
        config = _altered(BROKER_OPTIONS, current, operations)
        if not validate_only and config != self._catalog.cluster_config:
            await self._shard.propose([ClusterConfigured(config)])
            self.on_settings_changed()


async def _ignore(_: str) -> None:
    return None


def _check_not_own(name: str) -> None:
    if name in OWN_TOPICS:
        raise PenstockError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"{name} is the brokers' own topic: they make it with one partition when they need it",
        )


def _altered(
    table: OptionTable, current: dict[str, str], operations: Sequence[ConfigOperation]
) -> dict[str, str]:
    config = dict(current)
    for operation in operations:
        if operation.name not in table.options:
            _checked(table, {operation.name: ""})
        if operation.operation == "delete" or (operation.operation == "set" and operation.value is None):
            # A value beside it means nothing; Kafka's own tools send an empty one.
            config.pop(operation.name, None)
            continue
        _checked(table, {operation.name: operation.value} if operation.value is not None else {})
        if operation.operation == "set" and operation.value is not None:
            config[operation.name] = operation.value.strip()
        else:
            raise PenstockError(
                ErrorCode.INVALID_CONFIG,
                f"{operation.name} is not a list: {operation.operation} cannot be applied to it, use set",
            )
    return config


def _checked(table: OptionTable, config: dict[str, str]) -> dict[str, str]:
    try:
        table.parse(config)
    except OptionError as error:
        raise PenstockError(ErrorCode.INVALID_CONFIG, str(error)) from error
    return config
