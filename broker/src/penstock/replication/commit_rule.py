"""When an entry counts as committed.

The rule is the only thing that the replication modes do differently with the log, so it is a function of what the
members hold. A shard of one broker commits what its own log holds: on disk under `flush: sync`, written under `async`.
"""

from __future__ import annotations


def standalone_commit_index(*, written_index: int, durable_index: int, sync: bool) -> int:
    """The last committed index of a shard with one broker."""
    return durable_index if sync else written_index
