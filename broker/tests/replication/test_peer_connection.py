"""Two brokers that meet: who talks to whom, what is said when they must not, and that no bytes confuse either."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.codec.peer import (
    GREETING_BYTES_MAX,
    KIND_ASK,
    KIND_CONSENSUS,
    KIND_HELLO,
    KIND_REFUSED,
    encode_frame,
)
from penstock.session.peer_connection import (
    FRAME_BYTES_MAX,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Ended,
    Greeted,
    Greeting,
    PeerConnection,
    PeerEvent,
    Received,
    refusal,
)

_settings = settings(max_examples=200, deadline=None, derandomize=True, database=None)

OWN_STORAGE = uuid.UUID(int=100 << 65)
OTHER_STORAGE = uuid.UUID(int=101 << 65)
OWN = Greeting(
    cluster_id="cluster-a",
    shard_id=0,
    shard_uid="shard-1",
    ordinal=0,
    member=100,
    storage_id=str(OWN_STORAGE),
    name="orders-0-0",
    release="1.0",
    feature_level=1,
    shard_level=1,
    founded=True,
    listeners={"kafka": "orders-0-0:9092"},
    peer="orders-0-0:9093",
)
OTHER = msgspec.structs.replace(
    OWN, ordinal=1, member=101, storage_id=str(OTHER_STORAGE), name="orders-0-1", last_index=7
)


def changed(**changes: object) -> Greeting:
    return msgspec.structs.replace(OTHER, **changes)


def frame(kind: int, meta: bytes = b"", data: bytes = b"") -> bytes:
    return b"".join(encode_frame(kind, meta, [data]))


def hello(greeting: Greeting) -> bytes:
    return b"".join(PeerConnection(greeting).opening())


def connection(expected: int | None = None, own: Greeting = OWN) -> PeerConnection:
    return PeerConnection(own, expected)


def opened() -> PeerConnection:
    made = connection()
    assert list(made.feed(hello(OTHER))) == [Greeted(OTHER)]
    return made


def ended(events: Sequence[PeerEvent]) -> Ended:
    [event] = events
    assert isinstance(event, Ended)
    return event


# --- greetings ------------------------------------------------------------------------------------


def test_two_members_greet_each_other_and_then_talk() -> None:
    dialling, accepting = connection(expected=1), connection(own=OTHER)
    assert list(accepting.feed(b"".join(dialling.opening()))) == [Greeted(OWN)]
    assert list(dialling.feed(b"".join(accepting.opening()))) == [Greeted(OTHER)]
    [received] = accepting.feed(frame(KIND_CONSENSUS, b"meta", b"entries"))
    assert isinstance(received, Received)
    assert (received.frame.kind, bytes(received.frame.meta), bytes(received.frame.data)) == (
        KIND_CONSENSUS,
        b"meta",
        b"entries",
    )


@pytest.mark.parametrize(
    ("other", "expected", "sentence"),
    [
        (
            changed(protocol_min=PROTOCOL_MAX + 1, protocol_max=PROTOCOL_MAX + 3),
            1,
            "orders-0-1 speaks versions 2 to 4 of the brokers' protocol, orders-0-0 1 to 1: upgrade the older one first",
        ),
        (
            changed(protocol_min=0, protocol_max=PROTOCOL_MIN - 1),
            1,
            "orders-0-1 speaks versions 0 to 0 of the brokers' protocol, orders-0-0 1 to 1: upgrade the older one first",
        ),
        (
            changed(shard_uid="shard-2"),
            1,
            "orders-0-1 belongs to shard 0 (shard-2), orders-0-0 to shard 0 (shard-1): check shard.peers",
        ),
        (
            changed(shard_id=3),
            1,
            "orders-0-1 belongs to shard 3 (shard-1), orders-0-0 to shard 0 (shard-1): check shard.peers",
        ),
        (
            changed(cluster_id="cluster-b"),
            1,
            "orders-0-1 belongs to cluster cluster-b, orders-0-0 to cluster-a: check shard.peers",
        ),
        (
            changed(ordinal=0),
            None,
            "orders-0-1 says that it is broker 0, and so is orders-0-0: check broker.ordinal",
        ),
        (
            changed(ordinal=2),
            1,
            "orders-0-1 is broker 2, where broker 1 was expected: check shard.peers",
        ),
        (
            changed(member=0),
            1,
            f"orders-0-1 speaks as member 0, which its storage '{OTHER_STORAGE}' does not make it: its release or its data"
            " folder is at fault",
        ),
        (
            changed(storage_id="none"),
            1,
            "orders-0-1 speaks as member 101, which its storage 'none' does not make it: its release or its data folder is at"
            " fault",
        ),
        (
            changed(member=OWN.member, storage_id=OWN.storage_id),
            1,
            "orders-0-1 has the storage of orders-0-0: one of the two data folders is a copy",
        ),
        (
            changed(feature_level=0),
            1,
            "the shard uses feature level 1, the release of orders-0-1 knows 0: upgrade it",
        ),
        (
            changed(feature_level=3, shard_level=2),
            1,
            "the shard uses feature level 2, the release of orders-0-0 knows 1: upgrade it",
        ),
    ],
)
def test_who_must_not_talk_and_why(other: Greeting, expected: int | None, sentence: str) -> None:
    end = ended(list(connection(expected).feed(hello(other))))
    assert end.sentence == sentence
    # The other side reads the same sentence, whichever of its own greeting is still on its way.
    [told] = PeerConnection(other).feed(b"".join(end.output))
    assert told == Ended(f"the other broker refused: {sentence}", [])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed(protocol_min=0, protocol_max=PROTOCOL_MIN), 1),
        (changed(protocol_min=PROTOCOL_MAX, protocol_max=PROTOCOL_MAX + 3), 1),
        # A broker that knows no shard yet has made up its cluster's id.
        (changed(cluster_id="cluster-b", founded=False), 1),
        (changed(ordinal=2), None),
        (changed(name=OWN.name), 1),
    ],
)
def test_what_does_not_matter(other: Greeting, expected: int | None) -> None:
    assert list(connection(expected).feed(hello(other))) == [Greeted(other)]


@_settings
@given(
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.sampled_from(["s1", "s2"]), st.integers(0, 1)),
    st.sampled_from(["c1", "c2"]),
    st.booleans(),
    st.integers(0, 2),
)
def test_both_sides_come_to_the_same_conclusion(
    versions: tuple[int, int], shard: tuple[str, int], cluster: str, founded: bool, ordinal: int
) -> None:
    """Without an expectation, that is; so that no link stays open on one side alone."""
    one = msgspec.structs.replace(OWN, cluster_id="c1", shard_uid="s1", protocol_min=1, protocol_max=2)
    two = changed(
        protocol_min=min(versions),
        protocol_max=max(versions),
        shard_uid=shard[0],
        shard_id=shard[1],
        cluster_id=cluster,
        founded=founded,
        ordinal=ordinal,
    )
    assert (refusal(one, two, None) is None) == (refusal(two, one, None) is None)


def test_a_greeting_of_a_later_release_is_read_and_one_of_an_earlier_release_gets_defaults() -> None:
    fields = msgspec.to_builtins(OTHER)
    later = {**fields, "zone": "a", "protocol_max": PROTOCOL_MAX + 1}
    [event] = connection().feed(frame(KIND_HELLO, msgspec.msgpack.encode(later), b"and more behind it"))
    assert event == Greeted(changed(protocol_max=PROTOCOL_MAX + 1))
    required = {
        field.name: fields[field.name] for field in msgspec.structs.fields(Greeting) if field.required
    }
    [event] = connection().feed(frame(KIND_HELLO, msgspec.msgpack.encode(required)))
    assert event == Greeted(changed(listeners={}, peer="", last_index=0, shard_level=0))


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode({**msgspec.to_builtins(OTHER), "ordinal": "1"}),
        msgspec.msgpack.encode(OTHER)[:-1],
        msgspec.msgpack.encode(OTHER) + b"\x00",
    ],
)
def test_a_greeting_that_cannot_be_read_is_refused(meta: bytes) -> None:
    end = ended(list(connection().feed(frame(KIND_HELLO, meta))))
    assert end.sentence.startswith("the greeting cannot be read: ")
    assert end.output


# --- what may come when ---------------------------------------------------------------------------


def test_nothing_comes_before_the_greeting_and_no_second_one_behind_it() -> None:
    end = ended(list(connection().feed(frame(KIND_CONSENSUS, b"meta"))))
    assert end.sentence == "something came before the greeting"
    assert end.output
    end = ended(list(opened().feed(hello(OTHER))))
    assert end.sentence == "a second greeting came on one connection"
    assert end.output


@pytest.mark.parametrize("first", [b"", hello(OTHER)])
def test_a_refusal_ends_the_connection_at_any_time_and_is_not_answered(first: bytes) -> None:
    made = connection()
    list(made.feed(first))
    refused = frame(KIND_REFUSED, msgspec.msgpack.encode({"sentence": "no" * 1000}))
    end = ended(list(made.feed(refused)))
    assert end == Ended("the other broker refused: " + "no" * 250, [])
    made = connection()
    assert ended(list(made.feed(frame(KIND_REFUSED, b"\xc1")))).sentence == (
        "the other broker refused: it gave no reason that can be read"
    )


def test_nothing_comes_behind_the_end() -> None:
    made = opened()
    stream = (
        frame(KIND_ASK) + frame(KIND_REFUSED, msgspec.msgpack.encode({"sentence": "no"})) + frame(KIND_ASK)
    )
    events = list(made.feed(stream))
    assert [type(event) for event in events] == [Received, Ended]
    assert list(made.feed(frame(KIND_ASK))) == []
    assert list(made.feed(b"\xff" * 100)) == []


def test_only_who_has_greeted_may_send_long_frames() -> None:
    long = frame(KIND_CONSENSUS, b"", bytes(GREETING_BYTES_MAX))
    end = ended(list(connection().feed(long[:4])))
    assert "was announced" in end.sentence
    assert end.output == []
    events = list(connection().feed(hello(OTHER) + long))
    assert [type(event) for event in events] == [Greeted, Received]
    end = ended(list(opened().feed(struct.pack("<I", FRAME_BYTES_MAX + 1))))
    assert end.sentence == (
        f"a frame of {FRAME_BYTES_MAX + 1} bytes was announced, 12 to {FRAME_BYTES_MAX} are possible"
    )


# --- any bytes ------------------------------------------------------------------------------------


def chunks(stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(stream[start : start + size])
        start += size
    return [*pieces, stream[start:]]


@_settings
@given(
    st.lists(st.tuples(st.sampled_from([KIND_CONSENSUS, KIND_ASK]), st.binary(max_size=20)), max_size=5),
    st.lists(st.integers(1, 60), max_size=40),
)
def test_any_chunking_gives_the_same_events(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    stream = hello(OTHER) + b"".join(frame(kind, meta) for kind, meta in sent)
    made = connection(expected=1)
    events = [event for piece in chunks(stream, sizes) for event in made.feed(piece)]
    assert events[0] == Greeted(OTHER)
    received = [event.frame for event in events[1:] if isinstance(event, Received)]
    assert [(each.kind, bytes(each.meta)) for each in received] == sent


@_settings
@given(st.booleans(), st.data())
def test_hostile_bytes_end_the_connection_at_most_once_and_do_nothing_else(
    greeted: bool, data: st.DataObject
) -> None:
    """Noise, and what was a good stream before some of its bytes were changed."""
    good = hello(OTHER) + frame(KIND_ASK, b"meta", b"data") + frame(KIND_REFUSED, b"\x80")
    stream = bytearray(data.draw(st.one_of(st.binary(max_size=200), st.just(good))))
    for _ in range(data.draw(st.integers(0, 3)) if stream else 0):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    made = opened() if greeted else connection()
    events: list[PeerEvent] = []
    for piece in chunks(bytes(stream), data.draw(st.lists(st.integers(1, 50), max_size=10))):
        events += made.feed(piece)
    ends = [number for number, event in enumerate(events) if isinstance(event, Ended)]
    assert ends in ([], [len(events) - 1])
    greetings = [number for number, event in enumerate(events) if isinstance(event, Greeted)]
    assert greetings in ([], [0])
    assert not (greeted and greetings)
    if any(isinstance(event, Received) for event in events):
        assert greeted or greetings
