"""One connection between two brokers of a shard, as a plain state machine: bytes in, events out, no socket.

    GREETING -> OPEN -> CLOSED;  GREETING -> CLOSED

Both sides send a greeting first: who they are, which shard they belong to, which protocol versions they know. Whoever
sees a reason not to talk says so in a REFUSED frame and closes, so that both logs name the reason. Behind the greetings
only the side that dialled sends: each broker has a connection of its own to every other one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import msgspec

from penstock.codec.peer import (
    GREETING_BYTES_MAX,
    KIND_HELLO,
    KIND_REFUSED,
    Buffer,
    FrameReader,
    PeerFrame,
    PeerFrameError,
    encode_frame,
)
from penstock.replication.features import why_too_old
from penstock.replication.members import member_id

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
# The longest frame behind the greeting: one append of entries with its description.
FRAME_BYTES_MAX = 32 * 1024 * 1024
_SENTENCE_MAX = 500


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """Who a broker is. `founded`: whether it knows a configuration of the shard; `cluster_id` counts only then.
    `feature_level` is the highest that its release knows, `shard_level` the shard's as far as this broker has come. `generation`,
    `lineage`: of the shard's last recovery (`replication.recovery`), 0 and empty where there was none. `members` are those
    of the configuration in its log, for which it vouches where it `leads`. `up_ms`: how long it has been running."""

    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    cluster_id: str
    shard_id: int
    shard_uid: str
    ordinal: int
    member: int
    storage_id: str
    name: str
    release: str
    feature_level: int
    shard_level: int = 0
    founded: bool
    last_index: int = 0
    listeners: dict[str, str] = {}
    http: dict[str, str] = {}
    peer: str = ""
    generation: int = 0
    lineage: str = ""
    members: tuple[int, ...] = ()
    leads: bool = False
    up_ms: int = 0


class Kinship(Enum):
    """How two copies of a shard stand to each other."""

    SAME = "same"
    OTHER_LEFT_BEHIND = "other left behind"
    OWN_LEFT_BEHIND = "own left behind"
    SPLIT = "split"


class _Refusal(msgspec.Struct):
    sentence: str


class Greeted(NamedTuple):
    """The other side is who it should be."""

    greeting: Greeting


class Received(NamedTuple):
    """A frame of the open connection."""

    frame: PeerFrame


class Ended(NamedTuple):
    """The connection must be closed. `output` goes out first; `sentence` says why, for the log; `kinship` is what was
    found out about the other copy."""

    sentence: str
    output: list[Buffer]
    kinship: Kinship = Kinship.SAME


class _State(Enum):
    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


PeerEvent = Greeted | Received | Ended


class PeerConnection:
    """See the module's text. `expected_ordinal` is who was dialled, None for a connection that was accepted."""

    def __init__(self, own: Greeting, expected_ordinal: int | None = None) -> None:
        self._own = own
        self._expected = expected_ordinal
        self._reader = FrameReader(GREETING_BYTES_MAX)
        self._state = _State.GREETING

    def opening(self) -> list[Buffer]:
        """What this side sends first."""
        return encode_frame(KIND_HELLO, msgspec.msgpack.encode(self._own))

    def feed(self, data: Buffer) -> Iterator[PeerEvent]:
        """What the bytes mean. Nothing more comes after Ended."""
        if self._state is _State.CLOSED:
            return
        try:
            for frame in self._reader.feed(data):
                event = self._frame(frame)
                yield event
                if isinstance(event, Ended):
                    return
        except PeerFrameError as error:
            self._state = _State.CLOSED
            yield Ended(str(error), [])

    def _frame(self, frame: PeerFrame) -> PeerEvent:
        if frame.kind == KIND_REFUSED:
            self._state = _State.CLOSED
            return Ended(f"the other broker refused: {_refusal_of(frame)}", [])
        if self._state is _State.OPEN:
            if frame.kind == KIND_HELLO:
                return self._refuse("a second greeting came on one connection")
            return Received(frame)
        if frame.kind != KIND_HELLO:
            return self._refuse("something came before the greeting")
        try:
            greeting = msgspec.msgpack.decode(frame.meta, type=Greeting)
        except msgspec.DecodeError as error:
            return self._refuse(f"the greeting cannot be read: {error}")
        reason = refusal(self._own, greeting, self._expected)
        if reason is not None:
            return self._refuse(reason)
        found = kinship(self._own, greeting)
        if found is not Kinship.SAME:
            return self._refuse(estrangement(self._own, greeting, found), found)
        self._state = _State.OPEN
        self._reader.frame_bytes_max = FRAME_BYTES_MAX
        return Greeted(greeting)

    def _refuse(self, sentence: str, found: Kinship = Kinship.SAME) -> Ended:
        self._state = _State.CLOSED
        return Ended(sentence, encode_frame(KIND_REFUSED, msgspec.msgpack.encode(_Refusal(sentence))), found)


def _refusal_of(frame: PeerFrame) -> str:
    try:
        return msgspec.msgpack.decode(frame.meta, type=_Refusal).sentence[:_SENTENCE_MAX]
    except msgspec.DecodeError:
        return "it gave no reason that can be read"


def refusal(own: Greeting, other: Greeting, expected_ordinal: int | None) -> str | None:
    """Why these two must not talk, as a sentence, or None."""
    if other.protocol_min > own.protocol_max or other.protocol_max < own.protocol_min:
        return (
            f"{other.name} speaks versions {other.protocol_min} to {other.protocol_max} of the brokers' protocol,"
            f" {own.name} {own.protocol_min} to {own.protocol_max}: upgrade the older one first"
        )
    if other.shard_uid != own.shard_uid or other.shard_id != own.shard_id:
        return (
            f"{other.name} belongs to shard {other.shard_id} ({other.shard_uid}), {own.name} to shard {own.shard_id}"
            f" ({own.shard_uid}): check shard.peers"
        )
    if own.founded and other.founded and other.cluster_id != own.cluster_id:
        return f"{other.name} belongs to cluster {other.cluster_id}, {own.name} to {own.cluster_id}: check shard.peers"
    if other.ordinal == own.ordinal:
        return (
            f"{other.name} says that it is broker {other.ordinal}, and so is {own.name}: check broker.ordinal"
        )
    if other.member != _member_of(other.storage_id):
        return (
            f"{other.name} speaks as member {other.member}, which its storage {other.storage_id[:_SENTENCE_MAX]!r} does not make"
            " it: its release or its data folder is at fault"
        )
    if other.member == own.member:
        return f"{other.name} has the storage of {own.name}: one of the two data folders is a copy"
    if expected_ordinal is not None and other.ordinal != expected_ordinal:
        return f"{other.name} is broker {other.ordinal}, where broker {expected_ordinal} was expected: check shard.peers"
    return why_too_old(other.name, other.feature_level, own.shard_level) or why_too_old(
        own.name, own.feature_level, other.shard_level
    )


def kinship(own: Greeting, other: Greeting) -> Kinship:
    """Whether the other copy is of the shard as it goes on here.

    One that is still being sent the log has not read of the last recovery yet, and speaks as if it were from before; but
    whoever sends it the log has it among the members.
    """
    if not own.founded or not other.founded or own.lineage == other.lineage:
        return Kinship.SAME
    if own.generation == other.generation:
        return Kinship.SPLIT
    if own.generation < other.generation:
        known = not other.leads or own.member in other.members
        return Kinship.SAME if known else Kinship.OWN_LEFT_BEHIND
    return Kinship.SAME if other.member in own.members else Kinship.OTHER_LEFT_BEHIND


def estrangement(own: Greeting, other: Greeting, found: Kinship) -> str:
    """What people are told of two copies that do not belong together, and what they can do."""
    if found is Kinship.SPLIT:
        return (
            f"{own.name} and {other.name} were both trusted when the shard had lost its quorum, and went on apart: decide"
            " for one of them, and start the other with an empty data folder"
        )
    former, leading = (own, other) if found is Kinship.OWN_LEFT_BEHIND else (other, own)
    return (
        f"{former.name} (storage {former.storage_id}) holds the shard from before it was recovered without it, and"
        f" {leading.name} is of after that: keep its data folder aside if what it holds may be needed, and start it with"
        " an empty one"
    )


def _member_of(storage_id: str) -> int | None:
    try:
        return member_id(uuid.UUID(storage_id))
    except ValueError:
        return None
