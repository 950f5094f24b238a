"""Receipts: what a member shows to settle a message that it holds.

The text says which partition, which offset and which lease; it is opaque to clients, and anything may come back from them.
A lease's id is chance, so that whoever was not granted a message does not settle it by counting.
"""

from __future__ import annotations

import base64
import binascii
from struct import Struct, error
from typing import Final, NamedTuple

_LAYOUT: Final = Struct(">BIQQ")
_VERSION: Final = 1
RECEIPT_LENGTH: Final = 28
LEASE_ID_BITS: Final = 63
"""Bits of a lease's id."""


class Receipt(NamedTuple):
    """`key` is the partition's, which no other partition ever has."""

    key: int
    offset: int
    lease_id: int


def encode_receipt(key: int, offset: int, lease_id: int) -> str:
    """The receipt's text."""
    return base64.urlsafe_b64encode(_LAYOUT.pack(_VERSION, key, offset, lease_id)).decode("ascii")


def decode_receipt(text: str) -> Receipt | None:
    """What a receipt says; None for what is none."""
    if len(text) != RECEIPT_LENGTH:
        return None
    try:
        data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        version, key, offset, lease_id = _LAYOUT.unpack(data)
    except (UnicodeEncodeError, binascii.Error, error):
        return None
    return Receipt(key, offset, lease_id) if version == _VERSION else None
