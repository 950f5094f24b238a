"""Digests by which replicas of a shard are compared: of their log's entries, and of their state.

Entries are hashed from one index to another, so that replicas whose retention dropped different segments compare what
both have. State is as of the commit index that comes with it: two replicas compare when that is the same.
"""

from __future__ import annotations

import asyncio
import hashlib

from penstock.log.errors import EntriesGoneError, LogDamagedError
from penstock.model.errors import ErrorCode, PenstockError
from penstock.runtime.shard import Shard
from penstock.service.api import ReplicaDigest


async def replica_digest(shard: Shard, first: int | None, last: int | None) -> ReplicaDigest:
    """Hashes the committed entries from `first` to `last` (all that are there by default) and every machine's state. Raises
    PenstockError (OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR)."""
    log = shard.log
    commit = shard.commit_index
    first = log.first_index if first is None else first
    last = commit if last is None else last
    if not log.first_index <= first <= last + 1 <= commit + 1:
        raise PenstockError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"the log holds committed entries {log.first_index} to {commit}, not {first} to {last}",
        )
    # Frozen in one turn of the loop, so all of them are as of the same entry.
    frozen = {machine.name: machine.freeze() for machine in shard.machines.written()}
    entries = ""
    try:
        if first <= last:
            entries = await shard.threads.read(log.digest(first, last))
    except (EntriesGoneError, LogDamagedError, OSError) as error:
        raise PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, f"the log could not be read: {error}") from error
    machines = await asyncio.to_thread(
        lambda: {name: hashlib.sha256(encode()).hexdigest() for name, encode in frozen.items()}
    )
    return ReplicaDigest(commit, first, last, entries, machines)
