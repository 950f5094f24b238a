"""Short hashes of manifests, to see later whether what is there was made from the same thing."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

HASH_LENGTH: Final = 16  # hexadecimal digits; a collision would only skip one repair


def content_hash(value: Any) -> str:
    """A hash that is the same for equal values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
