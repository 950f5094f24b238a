"""The Lease's record as a Kubernetes object: `coordination.k8s.io/v1`, kind Lease.

What the object has fields for stands there, so that `kubectl get lease` tells people who holds it and since when; the rest
are annotations. Writing is a JSON merge patch (RFC 7386) that names the version it is meant for, which the API server
refuses at any other: it changes what is ours and leaves labels, owners and others' annotations as they are.

Whoever has proved that the holder's container ended releases the Lease with one such patch: `penstock.io/lease-released`
with a sentence, and nothing else. The next acquisition takes it away.
"""

from __future__ import annotations

import datetime
from typing import Any

from penstock.replication.master_lease import LeaseRecord, Unreadable
from penstock.replication.master_lease_codec import KEYS, LeaseContentError, decode, encode

API_VERSION = "coordination.k8s.io/v1"
ANNOTATION_PREFIX = "penstock.io/lease-"
# Fields of the record that the object has fields for.
IN_SPEC = ("holder", "transitions", "acquired-at-us", "renewed-at-us")


def lease_to_manifest(name: str, namespace: str, record: LeaseRecord) -> dict[str, Any]:
    """The whole object, for creating it."""
    patch = lease_to_patch(record, None)
    annotations = {key: value for key, value in patch["metadata"]["annotations"].items() if value is not None}
    return {
        "apiVersion": API_VERSION,
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": patch["spec"],
    }


def lease_to_patch(record: LeaseRecord, if_version: str | None) -> dict[str, Any]:
    """Replaces all that is ours."""
    fields = encode(record)
    annotations = {ANNOTATION_PREFIX + key: fields.get(key) for key in KEYS if key not in IN_SPEC}
    metadata: dict[str, Any] = {"annotations": annotations}
    if if_version is not None:
        metadata["resourceVersion"] = if_version
    spec: dict[str, Any] = {
        "holderIdentity": record.holder or None,
        # Whole seconds, for people: ours are in an annotation.
        "leaseDurationSeconds": -(-record.duration_ms // 1000),
        "leaseTransitions": record.transitions,
        "renewTime": _time_text(record.renewed_at_us),
    }
    # An acquisition's; a renewal leaves what is there.
    if not record.renewals:
        spec["acquireTime"] = _time_text(record.renewed_at_us)
    return {"metadata": metadata, "spec": spec}


def lease_from_manifest(manifest: Any) -> LeaseRecord | Unreadable:
    """What an API server answers, whatever that is."""
    try:
        metadata, spec = manifest["metadata"], manifest["spec"]
        version = metadata["resourceVersion"]
        annotations = metadata.get("annotations") or {}
        fields = {
            key: annotations[ANNOTATION_PREFIX + key]
            for key in KEYS
            if ANNOTATION_PREFIX + key in annotations
        }
        fields["holder"] = spec.get("holderIdentity") or ""
        fields["transitions"] = str(spec.get("leaseTransitions") or 0)
        fields["acquired-at-us"] = _microseconds(spec.get("acquireTime"))
        fields["renewed-at-us"] = _microseconds(spec.get("renewTime"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return Unreadable(f"the answer is no Lease: {type(error).__name__} {error}")
    if not isinstance(version, str) or not version:
        return Unreadable("the Lease has no resourceVersion")
    try:
        return decode(fields, version)
    except LeaseContentError as error:
        return Unreadable(str(error))


def _time_text(time_us: int) -> str:
    seconds, rest_us = divmod(time_us, 1_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_us:06d}Z"


def _microseconds(text: str | None) -> str:
    """Raises ValueError, TypeError."""
    if text is None:
        return "0"
    moment = datetime.datetime.fromisoformat(text)
    since = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return str(since // datetime.timedelta(microseconds=1))
