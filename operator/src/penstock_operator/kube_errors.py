"""Errors at the border to the Kubernetes API, each only because somebody handles it apart."""

from __future__ import annotations


class KubeError(Exception):
    """The API server refused, or could not be asked (`status` 0). The text is its own sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
