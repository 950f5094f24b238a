"""CRC-32C, the checksum of record batches and of the commit log, behind one function so that its library can be exchanged."""

from fastcrc.crc32 import iscsi as _iscsi


def crc32c(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """CRC-32C (Castagnoli, RFC 3720) of `data`, going on from `initial`, the checksum of what comes before it."""
    return _iscsi(data, initial)
