"""Whether a live object is what its manifest says.

The API server adds defaults and status, so "is" means: everything in the manifest is in the live object, and the live
object was made from this very manifest (its hash), so that fields which left the manifest are noticed too.
"""

from __future__ import annotations

from typing import Any

from penstock_operator.api.names import ANNOTATION_APPLIED
from penstock_operator.api.units import quantity_exact


def drift(manifest: dict[str, Any], live: dict[str, Any] | None) -> str | None:
    """A sentence why the manifest must be applied, or None when there is no need."""
    if live is None:
        return "it is missing"
    wanted = manifest["metadata"]["annotations"][ANNOTATION_APPLIED]
    if live["metadata"].get("annotations", {}).get(ANNOTATION_APPLIED) != wanted:
        return "its specification changed"
    path = first_difference(manifest, live)
    return f"{path} was changed by somebody else" if path else None


def first_difference(wanted: Any, live: Any, path: str = "") -> str | None:
    """The path of the first value in `wanted` that is not in `live`, or None. Lists are compared item by item."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            # Kubernetes drops empty maps.
            return None if not wanted and live is None else path
        for key, value in wanted.items():
            found = first_difference(value, live.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return None
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) > len(live):
            return None if not wanted and live is None else path
        if len(live) != len(wanted) and not path.endswith("ownerReferences"):
            return path
        for index, value in enumerate(wanted):
            found = first_difference(value, live[index], f"{path}[{index}]")
            if found:
                return found
        return None
    return None if _same_scalar(wanted, live) else path


def _same_scalar(wanted: Any, live: Any) -> bool:
    if wanted == live:
        return True
    try:
        # Kubernetes rewrites quantities: 1000m comes back as 1, 1024Mi as 1Gi.
        return quantity_exact(wanted) == quantity_exact(live)
    except ValueError:
        return False
