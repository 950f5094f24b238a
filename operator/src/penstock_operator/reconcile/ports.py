"""What reconcilers need from the world, as small protocols.

Topics and groups are reconciled in the same way on Kubernetes and by `penstock up`: both supply these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from penstock_operator.plan.dependents import Claimant


RESYNC_DEFAULT_S = 30.0
"""How often everything is looked at without being told: what a lost event or an outside change costs at most."""


class Key(msgspec.Struct, frozen=True, order=True):
    """One resource."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth telling the user about a resource; on Kubernetes an Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """When to look at the object again; None: at the next event only."""

    after_s: float | None = None


class AdminError(Exception):
    """A broker refused; `code` is the stable name of the error and the text its sentence."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def is_not_leader(self) -> bool:
        """Whether another broker of the shard leads now; nothing was done."""
        return self.code == "NOT_LEADER_OR_FOLLOWER"


class AdminUnreachableError(Exception):
    """A broker could not be asked, or what it said is not understood: nothing is known."""


class BrokerAdmin(Protocol):
    """The admin API of a broker. Every call raises AdminError or AdminUnreachableError."""

    async def topic(self, name: str) -> Any | None:
        """The topic as the broker reports it; None when there is none."""

    async def create_topic(self, name: str, partitions: int, config: dict[str, str]) -> None:
        """Make a topic."""

    async def alter_topic(self, name: str, partitions: int | None, config: dict[str, str | None]) -> None:
        """More partitions, other configuration."""

    async def delete_topic(self, name: str) -> None:
        """Delete a topic; one that does not exist is deleted already."""

    async def group(self, name: str) -> Any | None:
        """The group as the broker reports it; None when there is none."""

    async def declare_group(self, name: str, declaration: dict[str, Any]) -> None:
        """Make a group, or change its topics and settings: `{mode, topics, start}`, for queues `{retry, deadLetter, lease}` too."""

    async def reset_group(self, name: str, to: dict[str, Any], force: bool) -> dict[str, Any]:
        """Move a group's offsets."""

    async def delete_group(self, name: str) -> None:
        """Delete a group; one that does not exist is deleted already."""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """A MessageCluster as its topics and groups see it."""

    state: Literal["Missing", "Leaving", "NotReady", "Ready"]
    message: str
    admin: Any = None  # a BrokerAdmin when Ready


class ResourceStore(Protocol):
    """Where resources are kept."""

    async def get(self, key: Key) -> dict[str, Any] | None:
        """The resource now; None when it is gone."""

    def claimants(self, kind: str, namespace: str) -> list[Claimant]:
        """All resources of a kind in a namespace, with the names that they claim."""

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        """Replace the status."""

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        """Replace the finalizers, if the resource did not change meanwhile."""

    async def tell(self, resource: dict[str, Any], note: Note) -> None:
        """Tell the user."""


class Clusters(Protocol):
    """Where MessageClusters are found."""

    async def find(self, namespace: str, name: str) -> ClusterState:
        """The cluster's state now."""


Clock = Callable[[], str]
"""The time as RFC 3339 text, for conditions."""

Reconciler = Callable[[Key], Awaitable[Again]]
