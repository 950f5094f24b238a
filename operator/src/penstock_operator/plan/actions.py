"""The things that a plan can ask for. Each says why, in a sentence that reaches status, Events and the log."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do; `disruptive` when clients may notice it, `incidental` when nothing waits for it."""

    disruptive: ClassVar[bool] = False
    incidental: ClassVar[bool] = False  # whether the cluster is as its spec says without it
    why: str


class ApplyObject(Action, frozen=True, kw_only=True):
    """Server-side apply of one manifest."""

    manifest: dict[str, Any]


class DeleteObject(Action, frozen=True, kw_only=True):
    """Delete an object that the spec no longer asks for."""

    api_version: str
    kind: str
    name: str
    uid: str


class RecreateStatefulSet(Action, frozen=True, kw_only=True):
    """Delete a StatefulSet but leave its pods, to make it anew with fields that cannot be changed."""

    name: str
    uid: str


class ExpandClaim(Action, frozen=True, kw_only=True):
    """Ask for a bigger volume."""

    name: str
    size: str


class AnnotateClaim(Action, frozen=True, kw_only=True):
    """Write the shard's identity on a volume claim."""

    name: str
    annotations: dict[str, str]


class ForgetClaim(Action, frozen=True, kw_only=True):
    """Take from a volume claim the mark that it holds a full copy of its shard."""

    name: str


class ShrinkStatefulSet(ApplyObject, frozen=True, kw_only=True):
    """Apply a StatefulSet that has fewer pods than the live one: brokers that have left are deleted."""


class PatchSettings(Action, frozen=True, kw_only=True):
    """Change settings of a running broker; None takes the run-time value back."""

    pod: str
    settings: dict[str, Any]


class LabelRole(Action, frozen=True, kw_only=True):
    """Say on a pod which role its broker has, if the pod did not change since it was looked at."""

    incidental: ClassVar[bool] = True
    pod: str
    version: str
    role: str
    epoch: int
    elected: bool  # whether it is news that this broker leads


class AdoptLease(Action, frozen=True, kw_only=True):
    """Say on a shard's Lease whose it is, if it did not change since it was looked at."""

    incidental: ClassVar[bool] = True
    name: str
    version: str
    labels: dict[str, str]
    owners: list[dict[str, Any]]


class ReleaseLease(Action, frozen=True, kw_only=True):
    """Say on a Lease that its holder has ended, if it did not change since it was looked at."""

    name: str
    version: str
    reason: str


class HandOver(Action, frozen=True, kw_only=True):
    """Have a leader give its leadership to another broker; clients pause for a moment."""

    disruptive: ClassVar[bool] = True
    pod: str
    to: str


class HandOverAsked(HandOver, frozen=True, kw_only=True):
    """A hand-over that a person asked for; `value` is the annotation that is answered."""

    value: str


class ResizeShard(Action, frozen=True, kw_only=True):
    """Tell a shard's leader how many brokers there should be; it changes the members, and hands over if it goes itself."""

    disruptive: ClassVar[bool] = True
    pod: str
    replicas: int


class TrustMember(Action, frozen=True, kw_only=True):
    """Have a shard that lost its quorum for good go on from one broker's copy; what only others held is gone."""

    disruptive: ClassVar[bool] = True
    pod: str
    shard_uid: str


class RestartBroker(Action, frozen=True, kw_only=True):
    """Evict one pod, so that its StatefulSet starts it anew from the current template."""

    disruptive: ClassVar[bool] = True
    pod: str
    uid: str


class ForgetPod(Action, frozen=True, kw_only=True):
    """Delete a pod by force, whose node is certainly gone and can never report that it ended."""

    disruptive: ClassVar[bool] = True
    pod: str
    uid: str


class GiveUpClaim(Action, frozen=True, kw_only=True):
    """Delete the claim of a volume that is gone, so that its broker begins anew."""

    disruptive: ClassVar[bool] = True
    name: str
    uid: str


class HandOverAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of the wish to hand over; `Waiting` is asked again, the others never."""

    value: str
    outcome: Literal["Done", "Refused", "Waiting"]
    message: str


class TrustAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of the wish to trust a broker's copy; `Waiting` is asked again, the others never."""

    pod: str
    outcome: Literal["Done", "Refused", "Waiting"]
    message: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, what is waited for, and what is wrong. At most one action is disruptive."""

    actions: list[Action]
    waits: list[str]  # without these the cluster does not do what its spec says
    missing: list[str] = msgspec.field(
        default_factory=list
    )  # brokers away, of shards that serve without them
    holds: list[str] = msgspec.field(default_factory=list)  # what would be done and cannot be now
    roll_held: bool = False  # whether restarts that the shard cannot bear now are among them
    scaling: list[str] = msgspec.field(default_factory=list)  # changes of the number of brokers under way
    refused: list[str] = msgspec.field(default_factory=list)  # such that wait for a person
    problems: list[tuple[str, str]]  # (reason, sentence)
    trust: TrustAnswer | None = None
    hand_over: HandOverAnswer | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        waits = self.waits or self.missing or self.holds or self.scaling or self.refused
        return not (self.actions or waits or self.problems)
