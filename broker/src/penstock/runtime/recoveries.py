"""What a member knows of its shard's recoveries, and how it is trusted when the quorum is lost for good.

Decisions are pure and stand in `replication.recovery` and `session.peer_connection`. Here their outcome is written into
the identity, which is durable and whole or not at all, and then the broker is started anew (`on_restart`): a member that
finds there that it is trusted comes up as its shard's only one. So nothing changes under a running consensus, and a crash
at any point leaves either the old members or the new one.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from penstock.log.maintenance import disk_is_full
from penstock.model.errors import ErrorCode, PenstockError
from penstock.raft.configuration import Configuration
from penstock.replication.members import ShardRecovered
from penstock.replication.recovery import Copy, Recovery, continues, refuse_trust, wrong_copy
from penstock.runtime.data_folder import MetaStore
from penstock.runtime.links import Links
from penstock.runtime.replica import Replica
from penstock.session.peer_connection import Greeting, Kinship, kinship

logger = logging.getLogger(__name__)


class Recoveries:
    """See the module's text. `split` has, by ordinal, why brokers that were trusted too are kept apart."""

    def __init__(self, replica: Replica, store: MetaStore, links: Links, name: str) -> None:
        self._replica = replica
        self._shard = replica.shard
        self._store = store
        self._links = links
        self._name = name
        self.split: dict[int, str] = {}
        # The identity was changed so that the broker has to be started anew.
        self.on_restart: Callable[[], None] = lambda: None
        self._leaving: asyncio.Task[None] | None = None
        links.on_estranged = self._estranged

    # --- questions -------------------------------------------------------------------------------

    @property
    def in_log(self) -> Recovery | None:
        """The last one that the log tells of, committed or not."""
        found = self._shard.machines.members.recovery
        for _, command in self._shard.in_flight.changes():
            if isinstance(command, ShardRecovered):
                found = command.recovery
        return found

    @property
    def pending(self) -> Recovery | None:
        """This member was trusted, and its log does not say so yet."""
        told, in_log = self._replica.meta.recovery, self.in_log
        return told if told is not None and told.generation > _generation(in_log) else None

    @property
    def lineage(self) -> tuple[int, str]:
        """Generation and lineage of the shard as this member knows it."""
        newest = self.pending or self.in_log
        joined = self._replica.meta.joined
        return (
            joined if newest is None or joined[0] > newest.generation else (newest.generation, newest.lineage)
        )

    def configuration(self) -> Configuration:
        """The members as of the log's end; this one alone while its log does not say so yet."""
        if self.pending is not None:
            return Configuration((self._replica.own_member,))
        return self._shard.configuration_in_log()

    def kin(self, greeting: Callable[[], Greeting], configuration: Configuration) -> Sequence[Greeting]:
        """The connected brokers that may be members. One that was met before this member had read of the recovery may turn
        out to be of before it; its connection is ended, and it is told why when it comes again."""
        peers = self._links.members()
        if all(peer.member in configuration for peer in peers):
            return peers
        own = greeting()
        strangers = [peer for peer in peers if kinship(own, peer) is not Kinship.SAME]
        for peer in strangers:
            self._links.cut(peer.member)
        return [peer for peer in peers if peer not in strangers]

    # --- what happens ----------------------------------------------------------------------------

    def joined(self, other: Greeting, *, blank: bool) -> None:
        """Something can be sent to a peer. A member that holds nothing yet becomes part of the newest shard it meets; that
        is written with the first epoch it takes, before anything of the log."""
        self.split.pop(other.ordinal, None)
        if blank and other.founded and other.generation > self._replica.meta.joined[0]:
            self._amend(joined=(other.generation, other.lineage))

    def _estranged(self, ordinal: int | None, found: Kinship, sentence: str) -> None:
        if found is Kinship.SPLIT and ordinal is not None:
            self.split[ordinal] = sentence
        elif found is Kinship.OWN_LEFT_BEHIND and self._leaving is None:
            logger.error("%s", sentence)
            self._leaving = asyncio.create_task(self._leave(sentence))

    async def _leave(self, sentence: str) -> None:
        """From now on this copy takes no part, whoever else of its time comes back."""
        self._amend(left_behind=sentence)
        try:
            await self._keep()
        except OSError as error:
            self._shard.fail(error)
            return
        self.on_restart()

    async def trust(self, shard_uid: str, storage_id: str, now_ms: int) -> Recovery:
        """Has this member go on alone; returns when that cannot be lost any more, and the broker is about to start anew.
        Raises PenstockError: INVALID_REQUEST where that must not be, LEADER_NOT_AVAILABLE while somebody leads as far
        as is known, KAFKA_STORAGE_ERROR."""
        copy = self._copy()
        wrong = wrong_copy(copy, shard_uid, storage_id)
        if wrong is not None:
            raise PenstockError(ErrorCode.INVALID_REQUEST, wrong)
        recovery, before = self.pending, self._replica.meta.recovery
        if recovery is None:
            self._check_trust(copy)
            recovery = self._recovery(now_ms)
            self._amend(recovery=recovery)
        try:
            await self._keep()
        except OSError as error:
            if disk_is_full(error):
                self._amend(recovery=before)
            else:
                self._shard.fail(error)  # Whether it is on the disk is not known.
            raise PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, f"the disk fails: {error.strerror}") from error
        logger.warning(
            "trusted: the shard goes on from this copy, which ends with entry %d of epoch %d; what was acknowledged"
            " behind it may be gone",
            recovery.last_index,
            recovery.last_epoch,
        )
        self.on_restart()
        return recovery

    def _check_trust(self, copy: Copy) -> None:
        refusal = refuse_trust(copy)
        if refusal is not None:
            raise PenstockError(ErrorCode.INVALID_REQUEST, f"not trusted: {refusal}")
        if self._replica.leader_member:
            raise PenstockError(
                ErrorCode.LEADER_NOT_AVAILABLE,
                "not trusted: as far as this broker knows the shard still has a leader; ask again in a moment",
            )

    def _copy(self) -> Copy:
        replica = self._replica
        return Copy(
            shard_uid=str(replica.meta.shard_uid),
            storage_id=str(replica.meta.storage_id),
            name=self._name,
            member=replica.own_member,
            configuration=self._shard.configuration_in_log(),
            last_index=self._shard.log.next_index - 1,
            state_index=self._shard.state_index,
            answering=[peer.member for peer in self._links.members()],
        )

    def _recovery(self, now_ms: int) -> Recovery:
        log, replica = self._shard.log, self._replica
        generation, epoch = continues(self.lineage[0], max(replica.core.epoch, replica.meta.epoch))
        last = log.next_index - 1
        return Recovery(
            generation=generation,
            lineage=str(uuid.uuid4()),
            member=replica.own_member,
            broker=self._name,
            epoch=epoch,
            last_index=last,
            last_epoch=log.epoch_of(last),
            commit_index=max(replica.core.committed_index, self._shard.commit_index),
            time_ms=now_ms,
        )

    def _amend(self, **fields: object) -> None:
        self._replica.meta = msgspec.structs.replace(self._replica.meta, **fields)

    async def _keep(self) -> None:
        await self._shard.threads.write(partial(self._store.save_meta, self._replica.meta))


def _generation(recovery: Recovery | None) -> int:
    return 0 if recovery is None else recovery.generation
