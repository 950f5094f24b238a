"""Who of several operators works: the holder of a Lease.

The Lease's own times come from other machines' clocks and are not trusted: a holder counts as gone when this process has
seen no change of the Lease for its duration. A leader that could not renew in time stops and exits; it never tries to
come back within the same process, because half of its state would be of another time.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.kube_errors import KubeError

if TYPE_CHECKING:
    from penstock_operator.kube import KubeApi

logger = logging.getLogger(__name__)

LEASE_API: Final = "coordination.k8s.io/v1"
LEASE_DURATION_S: Final = 15.0
RENEW_DEADLINE_S: Final = 10.0
RETRY_S: Final = 2.0
LOOK_S: Final = 1.0  # how often those that wait look, so that they see a change soon and its absence in time


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate remembers about the Lease between looks."""

    version: str | None = None  # resourceVersion last seen
    changed_at: float = 0.0  # when this process saw it change


def may_take(lease: dict[str, Any], view: LeaseView, identity: str, now: float) -> bool:
    """Whether the Lease is ours already, free, or has not changed for its duration on our own clock."""
    holder = lease.get("spec", {}).get("holderIdentity")
    if not holder or holder == identity:
        return True
    duration = float(lease["spec"].get("leaseDurationSeconds") or LEASE_DURATION_S)
    return now - view.changed_at >= duration


def look(lease: dict[str, Any], view: LeaseView, now: float) -> LeaseView:
    """Remember when the Lease last changed."""
    version = lease["metadata"]["resourceVersion"]
    return view if version == view.version else LeaseView(version=version, changed_at=now)


def must_stop(last_renewal_sent: float, now: float) -> bool:
    """Whether a leader has gone without a renewal for too long; counted from when it sent the last good one."""
    return now - last_renewal_sent >= RENEW_DEADLINE_S


class LeaderElection:
    """Acquires one Lease and keeps it."""

    def __init__(
        self, kube: KubeApi, namespace: str, name: str, identity: str, clock: Callable[[], float]
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._view = LeaseView()
        self._sent = 0.0
        self._holds = False
        self._view_is_foreign = False  # whether somebody else held it at the last look

    async def acquire(self) -> None:
        """Return once this process is the leader."""
        logger.info(
            "waiting to lead", extra={"lease": f"{self._namespace}/{self._name}", "identity": self._identity}
        )
        while True:
            if await self._try():
                break
            await asyncio.sleep(LOOK_S)
        self._holds = True
        logger.info("leading", extra={"identity": self._identity})

    async def hold(self) -> None:
        """Renew; return when the Lease is lost or could not be renewed in time."""
        while True:
            await asyncio.sleep(RETRY_S)
            renewed = await self._try()
            if not renewed and self._view_is_foreign:
                logger.error("another operator leads now; this one stops", extra={"identity": self._identity})
                self._holds = False
                return
            if not renewed and must_stop(self._sent, self._clock()):
                logger.error("the Lease could not be renewed in time; this operator stops")
                self._holds = False
                return

    async def release(self) -> None:
        """Let the next one lead at once. Does nothing when the Lease is not ours."""
        if not self._holds:
            return
        self._holds = False
        try:
            lease = await self._kube.get(LEASE_API, "Lease", self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                await self._kube.replace(self._manifest(lease, holder=""))
        except KubeError as error:
            logger.info(
                "the Lease was not released; the next operator waits for its end", extra={"why": str(error)}
            )

    async def _try(self) -> bool:
        """Acquire or renew by compare-and-swap. False when somebody else holds it or it cannot be written now."""
        sent = self._clock()
        try:
            async with asyncio.timeout(self._time_left(sent)):
                lease = await self._kube.get(LEASE_API, "Lease", self._namespace, self._name)
                if lease is None:
                    await self._kube.create(self._manifest(None, holder=self._identity))
                else:
                    self._view = look(lease, self._view, sent)
                    self._view_is_foreign = lease["spec"].get("holderIdentity") not in (
                        "",
                        None,
                        self._identity,
                    )
                    if not may_take(lease, self._view, self._identity, sent):
                        return False
                    if self._holds and self._view_is_foreign:
                        return False
                    await self._kube.replace(self._manifest(lease, holder=self._identity))
        except (KubeError, TimeoutError) as error:
            logger.info("the Lease is not ours yet", extra={"why": str(error) or type(error).__name__})
            return False
        self._view_is_foreign = False
        self._sent = sent
        return True

    def _time_left(self, now: float) -> float:
        """How long one try may take: a leader must know the outcome before its deadline."""
        left = self._sent + RENEW_DEADLINE_S - now if self._holds else RENEW_DEADLINE_S - RETRY_S
        return max(0.0, left)

    def _manifest(self, lease: dict[str, Any] | None, *, holder: str) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (lease or {}).get("spec", {})
        taken = old.get("holderIdentity") != holder
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        if lease is not None:
            metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASE_API,
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                # Zero is not valid; one second lets the next one in at once.
                "leaseDurationSeconds": int(LEASE_DURATION_S) if holder else 1,
                "acquireTime": now if taken or "acquireTime" not in old else old["acquireTime"],
                "renewTime": now,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + (1 if taken and holder else 0),
            },
        }
