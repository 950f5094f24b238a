"""A group on a bench: requests in, replies collected by token, appends held until a test settles them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from penstock.groups.classic import ClassicGroup
from penstock.groups.commands import GroupGeneration
from penstock.groups.requests import Append, Effect, Join, Joined, Leaving, Reply, Sync, Synced
from penstock.groups.settings import GroupSettings
from penstock.model.errors import ErrorCode

RANGE = (("range", b"r"),)
SETTINGS = GroupSettings(initial_rebalance_delay_ms=3_000)


def subscription(*topics: str) -> bytes:
    """ConsumerProtocolSubscription v0."""
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def assignment(**topics: Sequence[int]) -> bytes:
    """ConsumerProtocolAssignment v0."""
    parts = [
        struct.pack(
            f">h{len(name)}si{len(partitions)}i", len(name), name.encode(), len(partitions), *partitions
        )
        for name, partitions in topics.items()
    ]
    return struct.pack(">hi", 0, len(topics)) + b"".join(parts) + struct.pack(">i", -1)


class Bench:
    """Drives one group at a virtual time."""

    def __init__(self, settings: GroupSettings = SETTINGS, record: GroupGeneration | None = None) -> None:
        self.now = 1_000_000
        self.group = (
            ClassicGroup("g", settings)
            if record is None
            else ClassicGroup.restored(record, settings, self.now)
        )
        self.replies: dict[int, Joined | Synced] = {}
        self.appends: list[Append] = []
        self.saved: list[GroupGeneration] = []
        self.parked: set[int] = set()
        self.auto_save = True
        self._token = 0

    def run(self, effects: Iterable[Effect]) -> None:
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            if isinstance(effect, Reply):
                assert effect.token in self.parked, f"token {effect.token} was answered twice or never given"
                self.parked.remove(effect.token)
                self.replies[effect.token] = effect.result
            elif self.auto_save:
                queue.extend(self._settle(effect, ErrorCode.NONE))
            else:
                self.appends.append(effect)

    def _settle(self, append: Append, error: ErrorCode) -> list[Effect]:
        if error is ErrorCode.NONE and isinstance(append.command, GroupGeneration):
            self.saved.append(append.command)
        return self.group.appended(append.ticket, error, self.now)

    def settle(self, error: ErrorCode = ErrorCode.NONE) -> Append:
        """The oldest held append is committed, or fails."""
        append = self.appends.pop(0)
        self.run(self._settle(append, error))
        return append

    def token(self) -> int:
        self._token += 1
        self.parked.add(self._token)
        return self._token

    def join(
        self,
        member_id: str = "",
        instance: str | None = None,
        protocols: Sequence[tuple[str, bytes]] = RANGE,
        *,
        client: str = "c",
        session: int = 10_000,
        rebalance: int = 60_000,
        protocol_type: str = "consumer",
        known: bool = False,
        skip: bool = False,
    ) -> int:
        """`known` asks for KIP-394's two steps. Returns the token."""
        token = self.token()
        request = Join(
            member_id,
            instance,
            client,
            "/127.0.0.1",
            session,
            rebalance,
            protocol_type,
            tuple(protocols),
            f"s{token}",
            known,
            skip,
        )
        self.run(self.group.join(request, token, self.now))
        return token

    def joined(self, token: int) -> Joined:
        result = self.replies[token]
        assert isinstance(result, Joined)
        return result

    def sync(
        self,
        member_id: str,
        generation: int | None = None,
        assignments: dict[str, bytes] | None = None,
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol: str | None = None,
    ) -> int:
        token = self.token()
        number = self.group.generation if generation is None else generation
        request = Sync(member_id, instance, number, assignments or {}, protocol_type, protocol)
        self.run(self.group.sync(request, token, self.now))
        return token

    def synced(self, token: int) -> Synced:
        result = self.replies[token]
        assert isinstance(result, Synced)
        return result

    def heartbeat(
        self, member_id: str, generation: int | None = None, instance: str | None = None
    ) -> ErrorCode:
        number = self.group.generation if generation is None else generation
        return self.group.heartbeat(member_id, instance, number, self.now)

    def commit(self, member_id: str = "", generation: int = -1, instance: str | None = None) -> ErrorCode:
        return self.group.check_commit(member_id, instance, generation, self.now)

    def leave(self, *leaving: Leaving) -> list[ErrorCode]:
        errors, effects = self.group.leave(leaving, self.now)
        self.run(effects)
        return errors

    def advance(self, ms: int) -> None:
        """Time passes; every deadline on the way is met at its time."""
        end = self.now + ms
        while True:
            deadline = self.group.next_deadline_ms()
            if deadline is None or deadline > end:
                break
            assert deadline >= self.now, "a deadline was left behind"
            self.now = deadline
            self.run(self.group.tick(self.now))
            following = self.group.next_deadline_ms()
            assert following is None or following > self.now, "a tick left its deadline in place"
        self.now = end

    def stable(self, *members: tuple[str | None, Sequence[tuple[str, bytes]]]) -> list[str]:
        """Makes the group Stable with these (instance id, protocols); returns member ids, the leader's first."""
        tokens = [self.join("", instance, protocols) for instance, protocols in members]
        while self.parked:
            self.advance(SETTINGS.initial_rebalance_delay_ms)
        ids = [self.joined(token).member_id for token in tokens]
        leader = self.joined(tokens[0]).leader
        instances = dict(zip(ids, [instance for instance, _ in members], strict=True))
        for member_id in [*[i for i in ids if i != leader], leader]:
            self.sync(member_id, None, {i: f"for-{i}".encode() for i in ids}, instances[member_id])
        return [leader, *[i for i in ids if i != leader]]
