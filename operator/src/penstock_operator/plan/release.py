"""Whether the Lease of a master that has ended can be released at once, so that nobody waits until it runs out.

A release is a promise to all others that the holder acknowledges nothing any more, so it is made on proof alone: the Lease
names a pod by its uid and a holder by a UUID that one start of one broker made for itself; and that pod's status, read after
the Lease, says of a container that it ended and that it was this very holder. A pod that does not answer, that is not there, or whose
node is gone proves nothing: its broker may run on. Then the Lease runs out by itself. Nobody is promoted here: who takes over is
decided by the brokers, by what the Lease says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_operator.plan.actions import ReleaseLease

if TYPE_CHECKING:
    from penstock_operator.snapshot.cluster import PodSeen
    from penstock_operator.snapshot.endings import Ended
    from penstock_operator.snapshot.lease import LeaseSeen


def plan_release(lease: LeaseSeen, pod: PodSeen | None) -> ReleaseLease | str:
    """The release of this very state of the Lease, or the sentence why there is none. `pod` was read after the Lease, by the
    name that stands there; None: there is none of that name."""
    proof = _proof(lease, pod)
    if isinstance(proof, str):
        return proof
    reason = f"the container of {lease.pod_name} that held it has ended with exit code {proof.exit_code}"
    why = f"Lease {lease.name} of epoch {lease.epoch} is released because {reason}"
    return ReleaseLease(why=why, name=lease.name, version=lease.version, reason=reason)


def _proof(lease: LeaseSeen, pod: PodSeen | None) -> Ended | str:
    """How the holder ended, or the sentence why that is not known."""
    if lease.problem is not None:
        return f"Lease {lease.name} cannot be read: {lease.problem}"
    if not lease.holder:
        return f"nobody holds Lease {lease.name}"
    if lease.released is not None:
        return f"Lease {lease.name} is released already: {lease.released}"
    if not lease.pod_name or not lease.pod_uid:
        return f"Lease {lease.name} does not say in which pod its holder runs"
    if pod is None:
        return f"pod {lease.pod_name} is not there, which does not prove that its broker has ended"
    if (pod.name, pod.uid) != (lease.pod_name, lease.pod_uid):
        return f"pod {pod.name} is another one than that whose broker holds Lease {lease.name}"
    ended = [each for each in pod.ended if each.holder == lease.holder]
    if not ended:
        return f"no container of {pod.name} is known to have ended that held Lease {lease.name}"
    return ended[0]
