"""In which order partitions are searched for a key, and where a search goes on: told to the client, so that the server keeps nothing."""

from __future__ import annotations

import base64
import binascii

import msgspec

from penstock.codec.murmur2 import murmur2, partition_for_key
from penstock.listeners.http.problems import RefusalError, invalid

CURSOR_VERSION = 1


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """The search goes on in the partition at `place` of the order, below offset `before` (None: from its end). The topic had
    `partitions` then, of which `only` one is searched or all; those that were added meanwhile are not."""

    version: int
    topic: str
    key_hash: int
    partitions: int
    only: int | None
    place: int
    before: int | None


def search_order(key: bytes, partitions: int, only: int | None) -> list[int]:
    """First where Kafka's default partitioner puts the key, then the others: producers that choose otherwise (librdkafka's default
    hashes by CRC-32) put it elsewhere."""
    if only is not None:
        return [only]
    first = partition_for_key(key, partitions)
    return [first, *(number for number in range(partitions) if number != first)]


def begin(topic: str, key: bytes, partitions: int, only: int | None) -> Cursor:
    """Where a search begins."""
    return Cursor(CURSOR_VERSION, topic, murmur2(key), partitions, only, 0, None)


def write_cursor(cursor: Cursor) -> str:
    """As text for the client."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def read_cursor(text: str, expected: Cursor) -> Cursor:
    """The client's cursor of the search that begins with `expected`. Raises RefusalError for anything else."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.msgpack.decode(data, type=Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise _no_cursor() from error
    if _search(cursor) != _search(expected):
        raise invalid(
            "`cursor` is of another search (key, topic, partition) or of another release; begin without it."
        )
    places = 1 if cursor.only is not None else cursor.partitions
    if not 1 <= cursor.partitions <= expected.partitions or not 0 <= cursor.place < places:
        raise _no_cursor()
    if cursor.before is not None and not 0 <= cursor.before < 2**63:
        raise _no_cursor()
    return cursor


def _search(cursor: Cursor) -> tuple[int, str, int, int | None]:
    return cursor.version, cursor.topic, cursor.key_hash, cursor.only


def _no_cursor() -> RefusalError:
    return invalid("`cursor` is not a cursor; take `next` as it is from the answer before.")
