"""Encoding large states for a snapshot without holding anybody up.

One call that encodes a hundred thousand values keeps every other thread waiting for as long as it takes. So large
collections are encoded value by value, which lets the event loop in between, and put together as one msgpack array.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import msgspec

_ARRAY32 = struct.Struct(">BI")
_ARRAY32_TAG = 0xDD


def encode_list(values: Iterable[Any]) -> msgspec.Raw:
    """The values as one msgpack array, to be put into a larger value or to stand alone."""
    encode = msgspec.msgpack.Encoder().encode
    pieces = [encode(value) for value in values]
    return msgspec.Raw(_ARRAY32.pack(_ARRAY32_TAG, len(pieces)) + b"".join(pieces))
