"""The Lease of a shard in mode MasterSlave as the operator reads it.

Its brokers write it, and decide by it; the operator tells of it, and releases it for a holder that is proved to have ended.
What it does not understand it leaves alone: then `problem` says why, and nothing else of it counts.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from penstock_operator.api.names import GROUP

LEASE_API: Final = "coordination.k8s.io/v1"
LEASE_KIND: Final = "Lease"
ANNOTATION_RELEASED: Final = f"{GROUP}/lease-released"
_PREFIX: Final = f"{GROUP}/lease-"
_FORMAT: Final = "1"


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What may be lost since a broker took over in this epoch, in its own sentence."""

    epoch: int
    message: str


class LeaseSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One Lease. `version` is the object's, by which a write is refused when somebody wrote before."""

    name: str
    version: str
    labels: dict[str, str]
    owners: list[dict[str, Any]]
    problem: str | None = None
    shard_uid: str = ""
    holder: str = ""  # the UUID of one start of one broker; empty for nobody
    pod_name: str = ""
    pod_uid: str = ""
    epoch: int = 0
    in_sync: int = 0  # how many brokers may take over
    changing: bool = False  # whether another in-sync set is about to take the place of this one
    released: str | None = None  # why it is free although it was held
    loss: Loss | None = None

    @property
    def gist(self) -> tuple[Any, ...]:
        """All that is worth another look when it changes: renewals are not."""
        state = (self.problem, self.shard_uid, self.holder, self.epoch, self.in_sync, self.changing)
        return (*state, self.released, self.loss, self.labels, self.owners)


def parse_lease(lease: dict[str, Any]) -> LeaseSeen:
    """A Lease as the API server returns it."""
    metadata, spec = lease["metadata"], lease.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    fields = {
        name.removeprefix(_PREFIX): text for name, text in annotations.items() if name.startswith(_PREFIX)
    }
    seen = LeaseSeen(
        name=metadata["name"],
        version=metadata.get("resourceVersion", ""),
        labels=metadata.get("labels") or {},
        owners=metadata.get("ownerReferences") or [],
    )
    problem = _problem(fields)
    if problem is not None:
        return msgspec.structs.replace(seen, problem=problem)
    return msgspec.structs.replace(
        seen,
        shard_uid=fields["shard-uid"],
        holder=spec.get("holderIdentity") or "",
        pod_name=fields.get("pod-name", ""),
        pod_uid=fields.get("pod-uid", ""),
        epoch=int(fields["epoch"]),
        in_sync=_count(fields.get("in-sync", "")),
        changing="pending" in fields,
        released=fields.get("released"),
        loss=_loss(fields.get("loss", "")),
    )


def _problem(fields: dict[str, str]) -> str | None:
    """Why the Lease cannot be read, or None."""
    if "format" not in fields:
        return "it does not say its format, so no broker wrote it"
    if fields["format"] != _FORMAT:
        return f"it has format {fields['format']!r}, and this release reads {_FORMAT}"
    if not fields.get("shard-uid"):
        return "it does not say whose it is"
    if not fields.get("epoch", "").isdecimal():
        return f"its epoch {fields.get('epoch', '')!r} is no number"
    return None


def _count(members: str) -> int:
    return len(members.split(",")) if members else 0


def _loss(text: str) -> Loss | None:
    """`EPOCH: SENTENCE`."""
    epoch, separator, sentence = text.partition(": ")
    if not separator or not epoch.isdecimal():
        return None
    return Loss(epoch=int(epoch), message=sentence)
