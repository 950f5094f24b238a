"""The hash that Kafka's clients choose partitions with, so that a key goes where their producers send it too.

MurmurHash2, 32 bits, by Austin Appleby (public domain), with the seed of Kafka's `Utils.murmur2`.
"""

from struct import unpack_from

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF


def murmur2(key: bytes) -> int:
    """The unsigned 32-bit hash of `key`."""
    length = len(key)
    words = length >> 2
    value = (_SEED ^ length) & _MASK
    for word in unpack_from(f"<{words}I", key):
        word = word * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ word
    tail = key[words << 2 :]
    if tail:
        value = (value ^ int.from_bytes(tail, "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


def partition_for_key(key: bytes, partition_count: int) -> int:
    """The partition that Kafka's default partitioner chooses: the hash without its sign bit, modulo the number of partitions."""
    return (murmur2(key) & _POSITIVE) % partition_count
