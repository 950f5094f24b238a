"""Ids that are computed from where a batch stands, by anybody who knows that, on any broker, at any time.

All numbers are big-endian. A partition has a seed of 128 bits,

    BLAKE2b-128(person = "penstock-trace", length of the cluster id (2 bytes) + cluster id (UTF-8) + topic id (16 bytes)
                + partition (4 bytes)),

and a batch that came without a context gets the trace id whose upper half is the seed's and whose lower half is
mix(lower half of the seed + base offset), where mix is the finalizer of SplitMix64 (Steele, Lea and Flood 2014). It is a
permutation, so no two batches of a partition share an id, and is computed in a fraction of a hash's time: that is done for
each batch that a ratio might pick.

The broker's own spans of a batch have ids that depend on the leader epoch as well: an offset that a new leader gives to
other content (what was not committed is cut off) must not get the same spans. Whoever delivers a batch finds the epoch in
its header and so knows its `receive` span, which another broker made.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

_partition = Struct(">i").pack
_place = Struct(">qi").pack
_length = Struct(">H").pack
_ids = Struct(">QQQ").unpack

_TRACE = b"penstock-trace"
_SPANS = b"penstock-spans"
_LOW = (1 << 64) - 1
_HIGH = _LOW << 64
# SplitMix64's factors, and what undoes a multiplication by them.
_FACTOR_1, _FACTOR_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_INVERSE_1, _INVERSE_2 = pow(_FACTOR_1, -1, 1 << 64), pow(_FACTOR_2, -1, 1 << 64)
SEED_BYTES = 16
CLUSTER_ID_BYTES_MAX = 0xFFFF


class SpanIds(NamedTuple):
    """Of the spans that the leader makes of one batch."""

    receive: int
    append: int
    replicate: int


def partition_seed(cluster_id: str, topic_id: bytes, partition: int) -> int:
    """What all ids of a partition's batches are made of. `topic_id` has 16 bytes."""
    cluster = cluster_id.encode()[:CLUSTER_ID_BYTES_MAX]
    data = _length(len(cluster)) + cluster + topic_id + _partition(partition)
    return int.from_bytes(blake2b(data, digest_size=SEED_BYTES, person=_TRACE).digest(), "big")


def derived_trace_id(seed: int, base_offset: int) -> int:
    """The trace id of a batch whose producer sent none: 128 bits, never 0."""
    return seed & _HIGH | _mix(seed + base_offset) or 1


def picks(seed: int, base_offset: int, bound: int) -> bool:
    """Whether the lowest 64 bits of the batch's derived trace id are below `bound`, without making the id: what a ratio asks of
    every batch."""
    return _mix(seed + base_offset) < bound


def _mix(value: int) -> int:
    low = value & _LOW
    low = (low ^ low >> 30) * _FACTOR_1 & _LOW
    low = (low ^ low >> 27) * _FACTOR_2 & _LOW
    return low ^ low >> 31


def derived_offset(seed: int, trace_id: int) -> int | None:
    """The base offset whose trace this would be in the partition with this seed: `derived_trace_id` backwards. None where it is
    none of the partition's."""
    if (trace_id ^ seed) & _HIGH:
        return None
    low = trace_id & _LOW
    low = (low ^ low >> 31 ^ low >> 62) * _INVERSE_2 & _LOW
    low = (low ^ low >> 27 ^ low >> 54) * _INVERSE_1 & _LOW
    offset = ((low ^ low >> 30 ^ low >> 60) - seed) & _LOW
    return offset if offset < 1 << 63 else None


def derived_span_ids(seed: int, base_offset: int, epoch: int) -> SpanIds:
    """64 bits each, never 0. `epoch` is the leader epoch in the batch's header."""
    data = seed.to_bytes(SEED_BYTES, "big") + _place(base_offset, epoch)
    receive, append, replicate = _ids(blake2b(data, digest_size=24, person=_SPANS).digest())
    return SpanIds(receive or 1, append or 1, replicate or 1)
