"""What a shard that may lose acknowledged messages said of it: which leaderships began with a loss, and what is set aside.

It is said in three places that have to agree: in the status of whoever leads, in the log of who took over, and by the former
master, which sets aside what the new one lacked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from penstock.testing.availability.books import Losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.testing.shard_processes import ShardProcesses

_SAID = re.compile(
    rb"acknowledged messages may be lost with epoch (\d+): this broker goes on from entry (\d+)"
)


def find_losses(shard: ShardProcesses, topic: str, epoch: int, logs: Sequence[bytes]) -> Losses:
    """Since `epoch`, which was the newest then; `logs` are the brokers' logs since. Raises ServerError when one does not
    answer."""
    epochs = sorted({int(found[1]) for log in logs for found in _SAID.finditer(log) if int(found[1]) > epoch})
    election: dict[str, Any] = shard.ask(shard.leader(), "/v1/broker")["election"]
    newest = epochs[-1] if epochs else 0
    told = election["lossEpoch"] if election["lossEpoch"] > epoch else 0
    wrong = (
        [] if told == newest else [f"the status tells of a loss in epoch {told}, the logs in epoch {newest}"]
    )
    if told and not election["loss"]:
        wrong.append(f"the status does not say what was lost in epoch {told}")
    aside = {
        (each["partition"], offset)
        for ordinal in range(shard.replicas)
        for tail in shard.ask(ordinal, "/v1/broker")["forkedTails"]
        for each in tail["partitions"]
        if each["topic"] == topic
        for offset in range(each["firstOffset"], each["lastOffset"] + 1)
    }
    return Losses(tuple(epochs), aside, wrong=tuple(wrong))
