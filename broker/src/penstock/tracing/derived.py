"""Ids that are computed from where a batch stands, by anybody who knows that, on any broker, at any time.

A batch that came without a context gets the trace id

    BLAKE2b-128(person = "penstock-trace", length of the cluster id (2 bytes) + cluster id (UTF-8) + topic id (16 bytes)
                + partition (4 bytes) + base offset (8 bytes)), all numbers big-endian.

The broker's own spans of a batch have ids that depend on the leader epoch as well: an offset that a new leader gives to
other content (what was not committed is cut off) must not get the same spans. Whoever delivers a batch finds the epoch in
its header and so knows its `receive` span, which another broker made.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

_partition = Struct(">i").pack
_offset = Struct(">q").pack
_epoch = Struct(">i").pack
_length = Struct(">H").pack
_ids = Struct(">QQQ").unpack

_TRACE = b"penstock-trace"
_SPANS = b"penstock-spans"
CLUSTER_ID_BYTES_MAX = 0xFFFF


class Place(NamedTuple):
    """Where a batch stands. `seed` is `partition_seed`'s; `epoch` is the leader epoch in the batch's header."""

    seed: bytes
    base_offset: int
    epoch: int


class SpanIds(NamedTuple):
    """Of the spans that the leader makes of one batch."""

    receive: int
    append: int
    replicate: int


def partition_seed(cluster_id: str, topic_id: bytes, partition: int) -> bytes:
    """What all ids of a partition's batches are made of. `topic_id` has 16 bytes."""
    cluster = cluster_id.encode()[:CLUSTER_ID_BYTES_MAX]
    return _length(len(cluster)) + cluster + topic_id + _partition(partition)


def derived_trace_id(place: Place) -> int:
    """The trace id of a batch whose producer sent none: 128 bits, never 0. The epoch has no part in it."""
    digest = blake2b(place.seed + _offset(place.base_offset), digest_size=16, person=_TRACE).digest()
    return int.from_bytes(digest, "big") or 1


def derived_span_ids(place: Place) -> SpanIds:
    """64 bits each, never 0."""
    data = place.seed + _offset(place.base_offset) + _epoch(place.epoch)
    receive, append, replicate = _ids(blake2b(data, digest_size=24, person=_SPANS).digest())
    return SpanIds(receive or 1, append or 1, replicate or 1)
