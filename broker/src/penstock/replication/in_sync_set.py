"""Which members must hold an entry before it is acknowledged, and how that set changes in the Lease.

What the master acknowledges under `replication: sync`, every member that may take over must hold; and who may take over
is who the Lease names. The master cannot know at every moment what the Lease says: a write may be on its way, or its answer
lost. So it keeps to every set that the Lease may name now: the recorded one, the pending one, and those of each write whose
outcome is not known yet.

A change is two writes. The first records the new set as pending; from just before it is sent, entries need both sets. The
second makes it the set; once that is known to be stored, entries need the new set alone. Members of the old set may take
over until then, and only they (`takeover`):

* A member that leaves is in the old set and holds everything acknowledged, because nothing was acknowledged without it
  while the second write had not taken effect; once it has, the Lease does not name the member any more, and a claim that was
  decided by an earlier version fails.
* A member that joins is in both sets only after the second write. By then it holds everything: what was acknowledged before the
  first write it had when it was proposed, and since then nothing was acknowledged without it.

A master that dies in between leaves a pending set, which its successor drops: everybody in the old set is as entitled as
the successor is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.replication.master_lease import LeaseRecord

Sets = tuple[frozenset[int], ...]

# Members of one set: more than a shard has.
IN_SYNC_MAX = 16


def next_step(record: LeaseRecord, wanted: frozenset[int]) -> tuple[frozenset[int], frozenset[int] | None]:
    """(in-sync set, pending set) of the master's next write."""
    if record.pending == wanted:
        return wanted, None
    if record.in_sync == wanted:
        return wanted, None
    return record.in_sync, wanted


def possible_sets(record: LeaseRecord, in_doubt: Iterable[LeaseRecord]) -> Sets:
    """Every set that the Lease names or may come to name: `record` is the newest that is known, `in_doubt` the writes whose
    outcome is not. The recorded set comes first."""
    found: list[frozenset[int]] = []
    for item in (record, *in_doubt):
        for members in (item.in_sync, item.pending):
            if members is not None and members not in found:
                found.append(members)
    return tuple(found)


def commit_sets(record: LeaseRecord, in_doubt: Iterable[LeaseRecord], wanted: frozenset[int]) -> Sets:
    """Every member of every one of these must hold an entry before it is acknowledged. Who is to join counts from when it
    was proposed, because what it was found to hold is true of that moment."""
    sets = possible_sets(record, in_doubt)
    if wanted - frozenset[int]().union(*sets):
        return (*sets, wanted)
    return sets


def why_writes_are_refused(sets: Sequence[frozenset[int]], min_in_sync: int) -> str | None:
    """A sentence while there may be fewer copies than `minInSync`, or None."""
    fewest = min(map(len, sets))
    if fewest >= min_in_sync:
        return None
    return f"{fewest} of the {min_in_sync} copies that minInSync asks for are in sync: bring back a broker, or lower minInSync"
