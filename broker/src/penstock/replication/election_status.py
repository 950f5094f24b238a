"""What one broker knows of its shard's Lease, for people and for the operator."""

from __future__ import annotations

import msgspec


class ElectionStatus(msgspec.Struct, frozen=True):
    """`phase` is this broker's own: following, claimed, master, releasing or over. What the Lease said when this broker last
    heard of it: `holder_name` is empty and `epoch` 0 where it never did; `in_sync` and `pending` hold member ids, and
    `loss` the sentence on what the claim of epoch `loss_epoch` may have lost, empty and 0 where none has. `reason` is a word
    and `sentence` tells why this broker does not lead, or why its life is over; both are empty while it is master."""

    phase: str
    holder_name: str = ""
    epoch: int = 0
    in_sync: list[int] = []
    pending: list[int] | None = None
    reason: str = ""
    sentence: str = ""
    loss: str = ""
    loss_epoch: int = 0
