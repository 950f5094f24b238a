"""Errors at the border to the Kubernetes API, each only because somebody handles it apart."""

from __future__ import annotations


class KubeError(Exception):
    """The API server refused, or could not be asked (`status` 0). The text is its own sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_namespace_leaving(self) -> bool:
        """Whether nothing can be made any more because the namespace is being deleted (NamespaceTerminating)."""
        return self.status == 403 and "is being terminated" in self.message
