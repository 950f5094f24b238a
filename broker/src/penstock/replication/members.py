"""Who keeps the shard: the members that vote and learn, and what each of them announced about itself.

A member is a storage, not a machine: its id is made of the storage's UUID, so a broker whose volume was replaced comes
back as somebody else and has to be added anew. The configuration is Raft's (one change at a time); the announcements
tell every broker, also one that has just started, where the others' listeners are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import msgspec

from penstock.model.commands import Command
from penstock.model.staged import StagedMap
from penstock.raft.configuration import Change, ChangeKind, Configuration
from penstock.replication.comparing import StateHashed
from penstock.replication.features import RESIZED_LEVEL
from penstock.replication.recovery import Recovery


def member_id(storage_id: uuid.UUID) -> int:
    """The member's number in the consensus: 63 bits of its storage's UUID, never 0."""
    return (storage_id.int >> 65) or 1


class Announcement(msgspec.Struct, frozen=True):
    """What a broker says of itself. `listeners` maps a listener's name to the HOST:PORT that clients are told;
    `peer` is where other brokers reach it, `http` where its HTTP listeners are bound (empty below the level that has it),
    `feature_level` the highest one that its release knows."""

    member: int
    ordinal: int
    storage_id: str
    name: str
    release: str
    listeners: dict[str, str]
    peer: str = ""
    feature_level: int = 1
    http: dict[str, str] = {}


class MemberChanged(Command, frozen=True, tag="members.changed"):
    """One step of the configuration: `member` becomes a voter or a learner, or is removed. The first one founds the
    shard."""

    change: ChangeKind
    member: int


class ShardRecovered(Command, frozen=True, tag="members.recovered"):
    """A quorum was lost for good, and the trusted member goes on alone: a change of the members like `MemberChanged`."""

    recovery: Recovery

    @property
    def change(self) -> ChangeKind:
        """What happens to the member."""
        return ChangeKind.ALONE

    @property
    def member(self) -> int:
        """Who is left."""
        return self.recovery.member


# What changes the configuration.
MembershipCommand = MemberChanged | ShardRecovered
# How the payloads of such commands begin, behind the byte that counts their fields: with the tag, which msgspec writes first.
_TAGS = tuple(
    msgspec.msgpack.encode({command.__struct_config__.tag_field: command.__struct_config__.tag})[1:]
    for command in (MemberChanged, ShardRecovered)
)
_TAG_END = 1 + max(map(len, _TAGS))


def changes_members(payload: memoryview) -> bool:
    """Whether a command's payload is a `MembershipCommand`, without reading it."""
    return bytes(payload[1:_TAG_END]).startswith(_TAGS)


class MemberAnnounced(Command, frozen=True, tag="members.announced"):
    """A broker began to follow or lead with these addresses."""

    announcement: Announcement


class LeadershipBegan(Command, frozen=True, tag="members.led"):
    """The first entry of an epoch: who leads it, and the wall clock by which it began."""

    member: int
    time_ms: int


class FeatureLevelRaised(Command, frozen=True, tag="members.level"):
    """Every member knows the commands of this level."""

    level: int


class ShardResized(Command, frozen=True, tag="members.resized"):
    """How many brokers the shard should have from now on, whatever their configuration files say: places 0 to
    `replicas` - 1."""

    feature_level = RESIZED_LEVEL

    replicas: int


class _Snapshot(msgspec.Struct):
    configuration: Configuration = Configuration()
    announcements: list[Announcement] = []
    level: int = 0
    clock_ms: int = 0


class _RecoveredSnapshot(_Snapshot):
    """Of a shard that was recovered; others keep the shape that earlier releases compare."""

    recovery: Recovery | None = None


class _ResizedSnapshot(_RecoveredSnapshot):
    """Of a shard that was told how many brokers it should have; likewise."""

    replicas: int = 0


class Members:
    """A `StateMachine`. The configuration is only ever read as committed: a change takes effect when it is applied."""

    name = "members"
    version = 1
    commands: tuple[type[Command], ...] = (
        MemberChanged,
        ShardRecovered,
        MemberAnnounced,
        LeadershipBegan,
        FeatureLevelRaised,
        StateHashed,
        ShardResized,
    )

    def __init__(self) -> None:
        self.configuration = Configuration()
        self.announcements: StagedMap[int, Announcement] = StagedMap()
        self.level = 0
        self._level_staged = 0
        # The newest time that a leader wrote: the shard's clock never goes back behind it.
        self.clock_ms = 0
        # The last time that the shard lost its quorum for good.
        self.recovery: Recovery | None = None
        # The brokers that it should have; 0: nobody said so yet, and each broker's configuration file counts.
        self.replicas = 0

    # --- questions -------------------------------------------------------------------------------

    @property
    def founded(self) -> bool:
        """Whether the shard has a configuration at all."""
        return bool(self.configuration.voters)

    @property
    def newest_level(self) -> int:
        """The feature level as of what is appended; commands of a level wait until it is committed, which `level` tells."""
        return max(self.level, self._level_staged)

    def configured(self) -> list[Announcement]:
        """Every configured member that has announced itself, by ordinal."""
        known = self.announcements.committed
        found = [known[member] for member in self.configuration.members if member in known]
        return sorted(found, key=lambda item: item.ordinal)

    # --- transitions -----------------------------------------------------------------------------

    def stage(self, index: int, command: Command) -> None:
        """See `StateMachine.stage`."""
        if isinstance(command, MemberAnnounced):
            self.announcements.writer(index, staged=True)[command.announcement.member] = command.announcement
        elif isinstance(command, FeatureLevelRaised):
            self._level_staged = max(self._level_staged, command.level)

    def apply(self, index: int, command: Command) -> None:
        """See `StateMachine.apply`."""
        match command:
            case MemberChanged(change=kind, member=member):
                self._change(index, Change(kind, member))
            case ShardRecovered(recovery=recovery):
                self._change(index, Change(command.change, command.member))
                self.recovery = recovery
            case MemberAnnounced(announcement=announcement):
                self.announcements.writer(index, staged=False)[announcement.member] = announcement
            case LeadershipBegan(time_ms=time_ms):
                self.clock_ms = max(self.clock_ms, time_ms)
            case FeatureLevelRaised(level=level):
                self.level = max(self.level, level)
            case ShardResized(replicas=replicas):
                self.replicas = replicas
            case StateHashed():
                pass  # It speaks of the state and is no part of it.
            case _:
                raise TypeError(f"the members do not know {type(command).__name__}")

    def _change(self, index: int, change: Change) -> None:
        self.configuration = self.configuration.changed([change])
        kept = set(self.configuration.members)
        known = self.announcements.writer(index, staged=False)
        for member in [member for member in self.announcements.committed if member not in kept]:
            del known[member]

    def drop_staged(self) -> None:
        """See `StateMachine.drop_staged`."""
        self.announcements.drop_staged()
        self._level_staged = 0

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return self.freeze()()

    def freeze(self) -> Callable[[], bytes]:
        """See `StateMachine.freeze`."""
        announcements = list(self.announcements.committed.values())
        frozen = _Snapshot(self.configuration, announcements, self.level, self.clock_ms)
        if self.replicas:
            frozen = _ResizedSnapshot(
                self.configuration, announcements, self.level, self.clock_ms, self.recovery, self.replicas
            )
        elif self.recovery is not None:
            frozen = _RecoveredSnapshot(
                self.configuration, announcements, self.level, self.clock_ms, self.recovery
            )
        return lambda: msgspec.msgpack.encode(frozen)

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_ResizedSnapshot)
        self.configuration = state.configuration
        self.announcements.committed = {item.member: item for item in state.announcements}
        self.level, self.clock_ms, self.recovery = state.level, state.clock_ms, state.recovery
        self.replicas = state.replicas
        self.drop_staged()
