"""The Lease's record as a flat map of strings, which annotations and a small file can both hold.

Every key is written or known to be left out where its value is "none"; what is read is checked field by field, and what
does not fit is an error with a sentence, never a guess: a member that cannot read the Lease waits. `format` is raised
when a field changes its meaning; keys that this release does not know belong to a newer one and are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.replication.in_sync_set import IN_SYNC_MAX
from penstock.replication.master_lease import HolderIdentity, LeaseRecord, Release

FORMAT = "1"
# Digits of a number: more is a mistake somewhere.
DIGITS_MAX = 19
# Characters of a name or sentence. Longer sentences are cut when they are written.
TEXT_MAX = 1024

KEYS = (
    "format", "shard-uid", "holder", "member", "ordinal", "pod-name", "pod-uid", "container-id", "epoch", "in-sync",
    "pending", "duration-ms", "log-end", "renewals", "attempt", "transitions", "released", "successor",
    "loss", "acquired-at-us", "renewed-at-us",
)  # fmt: skip


class LeaseContentError(Exception):
    """The map is not a record that this release can read; the text is a sentence."""


def encode(record: LeaseRecord) -> dict[str, str]:
    """The record without its version, which is the store's."""
    fields = {
        "format": FORMAT,
        "shard-uid": record.shard_uid,
        "holder": record.holder,
        "epoch": str(record.epoch),
        "in-sync": _members_text(record.in_sync),
        "duration-ms": str(record.duration_ms),
        "log-end": str(record.log_end),
        "renewals": str(record.renewals),
        "attempt": str(record.attempt),
        "transitions": str(record.transitions),
        "acquired-at-us": str(record.acquired_at_us),
        "renewed-at-us": str(record.renewed_at_us),
    }
    if record.pending is not None:
        fields["pending"] = _members_text(record.pending)
    if record.identity is not None:
        fields["member"] = str(record.identity.member)
        fields["ordinal"] = str(record.identity.ordinal)
        fields["pod-name"] = record.identity.pod_name
        fields["pod-uid"] = record.identity.pod_uid
        fields["container-id"] = record.identity.container_id
    if record.released is not None:
        fields["released"] = record.released.reason[:TEXT_MAX]
        fields["successor"] = str(record.released.successor)
    if record.loss_epoch:
        fields["loss"] = f"{record.loss_epoch}: {record.loss}"[:TEXT_MAX]
    return fields


def decode(fields: Mapping[str, str], version: str) -> LeaseRecord:
    """Raises LeaseContentError."""
    found = _text(fields, "format")
    if found != FORMAT:
        raise LeaseContentError(
            f"the Lease has format {found!r}, this release reads {FORMAT}: upgrade Penstock"
        )
    loss_epoch, loss = _loss(fields)
    record = LeaseRecord(
        shard_uid=_text(fields, "shard-uid"),
        holder=_text(fields, "holder"),
        identity=_identity(fields),
        epoch=_number(fields, "epoch", least=1),
        in_sync=_members(fields, "in-sync"),
        pending=_members(fields, "pending") if "pending" in fields else None,
        duration_ms=_number(fields, "duration-ms", least=1),
        log_end=_number(fields, "log-end"),
        renewals=_number(fields, "renewals"),
        attempt=_number(fields, "attempt"),
        transitions=_number(fields, "transitions"),
        released=_release(fields),
        loss=loss,
        loss_epoch=loss_epoch,
        acquired_at_us=_number(fields, "acquired-at-us"),
        renewed_at_us=_number(fields, "renewed-at-us"),
        version=version,
    )
    if record.holder and record.identity is None:
        raise LeaseContentError("the Lease names a holder and not which member it is")
    return record


def _identity(fields: Mapping[str, str]) -> HolderIdentity | None:
    if "member" not in fields:
        return None
    return HolderIdentity(
        member=_number(fields, "member", least=1),
        ordinal=_number(fields, "ordinal"),
        pod_name=_text(fields, "pod-name"),
        pod_uid=_text(fields, "pod-uid"),
        container_id=_text(fields, "container-id"),
    )


def _release(fields: Mapping[str, str]) -> Release | None:
    """An operator's has no successor."""
    if "released" not in fields:
        return None
    return Release(_text(fields, "released"), _number(fields, "successor") if "successor" in fields else 0)


def _loss(fields: Mapping[str, str]) -> tuple[int, str]:
    """(epoch, sentence), or 0 and nothing."""
    if "loss" not in fields:
        return 0, ""
    epoch, _, sentence = _text(fields, "loss").partition(": ")
    return _parsed(epoch, "the epoch of the loss", 1), sentence


def _text(fields: Mapping[str, str], key: str) -> str:
    if key not in fields:
        raise LeaseContentError(f"the Lease lacks {key}")
    text = fields[key]
    if not isinstance(text, str) or len(text) > TEXT_MAX:
        raise LeaseContentError(f"{key} of the Lease is no text of at most {TEXT_MAX} characters")
    return text


def _number(fields: Mapping[str, str], key: str, least: int = 0) -> int:
    return _parsed(_text(fields, key), key, least)


def _parsed(text: str, key: str, least: int) -> int:
    # Only what `str` writes: no sign, space, underscore, leading zero or digit of another script.
    if not (text.isascii() and text.isdigit()) or len(text) > DIGITS_MAX or (text[0] == "0" and text != "0"):
        raise LeaseContentError(f"{key} of the Lease is {text[:40]!r}, which is no number")
    if int(text) < least:
        raise LeaseContentError(f"{key} of the Lease is {text}, which is less than {least}")
    return int(text)


def _members_text(members: frozenset[int]) -> str:
    return ",".join(map(str, sorted(members)))


def _members(fields: Mapping[str, str], key: str) -> frozenset[int]:
    parts = _text(fields, key).split(",")
    if len(parts) > IN_SYNC_MAX:
        raise LeaseContentError(f"{key} of the Lease has more than {IN_SYNC_MAX} members")
    members = [_parsed(part, key, 1) if part else 0 for part in parts]
    if 0 in members or len(set(members)) != len(members):
        raise LeaseContentError(f"{key} of the Lease is no list of different members")
    return frozenset(members)
