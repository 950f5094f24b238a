"""Pods of the client image: each runs one of its programs once, beside the operator and with no rights."""

from __future__ import annotations

from typing import Any

from kube import ON_FIRST_NODE


def client_pod(
    name: str,
    image: str,
    program: str,
    arguments: list[str],
    *,
    label: str = "penstock-e2e-load",
    **more: Any,
) -> dict[str, Any]:
    """A pod that runs `program` (a file of the image's) to its end. `more` is said of its container, too."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": label}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            **ON_FIRST_NODE,
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", f"/client/{program}"],
                    "args": arguments,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    **more,
                }
            ],
        },
    }
