"""A snapshot on its way: put together from any pieces, checked before it is believed, and given up without a trace."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.crc import crc32c
from penstock.raft.configuration import Configuration
from penstock.raft.messages import InstallSnapshot, MessageError, Snapshot
from penstock.runtime.seed import (
    MACHINES_MAX,
    SEED_BYTES_MAX,
    Seed,
    SeedBegins,
    SeedFile,
    SeedMessage,
    SeedPiece,
    SeedReceiver,
)

_settings = settings(max_examples=200, deadline=None, derandomize=True, database=None)

INSTALL = InstallSnapshot(2, 1, 7, Snapshot(90, 6, Configuration((1, 2))))
NOTHING = memoryview(b"")
contents = st.lists(st.binary(max_size=40), max_size=4)


def begins(machines: list[bytes], number: int = 1, **changes: object) -> SeedBegins:
    files = tuple(
        SeedFile(f"machine_{place}", place + 1, len(data), crc32c(data))
        for place, data in enumerate(machines)
    )
    made = SeedBegins(number, INSTALL, 80, 85, files)
    return msgspec.structs.replace(made, **changes)


def seed_of(message: InstallSnapshot | None) -> Seed:
    assert message is not None
    assert msgspec.structs.replace(
        message, snapshot=msgspec.structs.replace(message.snapshot, payload=None)
    ) == (INSTALL)
    seed = message.snapshot.payload
    assert isinstance(seed, Seed)
    return seed


def machines_of(seed: Seed) -> list[tuple[str, int, int, bytes]]:
    return [(item.name, item.version, item.index, item.data) for item in seed.machines]


def expected(machines: list[bytes]) -> list[tuple[str, int, int, bytes]]:
    return [(f"machine_{place}", place + 1, 80, data) for place, data in enumerate(machines)]


def pieces(machines: list[bytes], size: int, number: int = 1) -> list[tuple[SeedPiece, memoryview]]:
    return [
        (SeedPiece(number, place), memoryview(data)[start : start + size])
        for place, data in enumerate(machines)
        for start in range(0, len(data), size)
    ]


def send(
    receiver: SeedReceiver, begin: SeedBegins, sent: list[tuple[SeedPiece, memoryview]]
) -> list[InstallSnapshot]:
    """Everything that came out, which is never more than one snapshot."""
    results = [receiver.receive(begin, NOTHING)]
    results += [receiver.receive(piece, data) for piece, data in sent]
    return [result for result in results if result is not None]


@_settings
@given(contents, st.integers(1, 15), st.data())
def test_any_pieces_give_the_same_snapshot_once(
    machines: list[bytes], size: int, data: st.DataObject
) -> None:
    """Pieces of one file come in order; files may come in any order, and pieces of other snapshots between them."""
    sent = pieces(machines, size)
    order = data.draw(st.permutations([piece.file for piece, _ in sent]))
    by_file = {file: iter([each for each in sent if each[0].file == file]) for file in set(order)}
    mixed: list[tuple[SeedPiece, memoryview]] = []
    for file in order:
        if data.draw(st.booleans()):
            mixed.append((SeedPiece(2, file), memoryview(b"of a snapshot that was given up")))
        mixed.append(next(by_file[file]))
    receiver = SeedReceiver()
    [message] = send(receiver, begins(machines), mixed)
    seed = seed_of(message)
    assert machines_of(seed) == expected(machines)
    assert (seed.covered_index, seed.configured_index) == (80, 85)
    # It is done: what comes behind it belongs to nothing.
    assert receiver.receive(SeedPiece(1, 0), memoryview(b"more")) is None


@_settings
@given(contents.filter(lambda machines: any(machines)), st.integers(1, 15), st.data())
def test_nothing_comes_out_before_the_last_byte(
    machines: list[bytes], size: int, data: st.DataObject
) -> None:
    sent = pieces(machines, size)
    receiver = SeedReceiver()
    assert send(receiver, begins(machines), sent[:-1]) == []
    # A new snapshot takes the place of an unfinished one, under whatever number.
    others = data.draw(contents)
    number = data.draw(st.integers(1, 2))
    [message] = send(receiver, begins(others, number), pieces(others, size, number))
    assert machines_of(seed_of(message)) == expected(others)


def test_machines_that_hold_nothing_need_no_pieces() -> None:
    assert machines_of(seed_of(SeedReceiver().receive(begins([b"", b""]), NOTHING))) == expected([b"", b""])


def test_a_piece_of_nothing_known_is_passed_over() -> None:
    assert SeedReceiver().receive(SeedPiece(1, 0), memoryview(b"x")) is None


@pytest.mark.parametrize(
    ("begin", "sent", "sentence"),
    [
        (begins([b"abc"]), [(0, b"abcd")], "machine_0 is longer than was announced"),
        (begins([b"abc", b"d"]), [(0, b"ab"), (0, b"cd")], "machine_0 is longer than was announced"),
        (begins([b"abc", b"d"]), [(0, b"abc"), (0, b"d")], "machine_0 is longer than was announced"),
        (begins([b"abc", b"d"]), [(2, b"x")], "a piece of file 2 came, there are 2"),
        (begins([b"abc", b"d"]), [(-1, b"d")], "a piece of file -1 came, there are 2"),
        (begins([b"abc"]), [(0, b"abd")], "the state of machine_0 does not match its checksum"),
        (
            begins([b"abc", b"def"]),
            [(0, b"def"), (1, b"abc")],
            "the state of machine_0 does not match its checksum",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(
    begin: SeedBegins, sent: list[tuple[int, bytes]], sentence: str
) -> None:
    receiver = SeedReceiver()
    assert receiver.receive(begin, NOTHING) is None
    *before, (last_file, last_data) = sent
    for file, data in before:
        assert receiver.receive(SeedPiece(1, file), memoryview(data)) is None
    with pytest.raises(MessageError, match=sentence):
        receiver.receive(SeedPiece(1, last_file), memoryview(last_data))
    # What is still on its way is passed over, and a new beginning is a beginning.
    assert receiver.receive(SeedPiece(1, 0), memoryview(b"abc")) is None
    [message] = send(receiver, begins([b"xyz"]), pieces([b"xyz"], 2))
    assert machines_of(seed_of(message)) == expected([b"xyz"])


def sized(*sizes: int) -> SeedBegins:
    return begins([], files=tuple(SeedFile(f"m{size}", 1, size, 0) for size in sizes))


@pytest.mark.parametrize(
    "begin",
    [
        sized(SEED_BYTES_MAX + 1),
        sized(SEED_BYTES_MAX, 1),
        sized(2**63 - 1),
        sized(-1),
        sized(SEED_BYTES_MAX, 5, -5),
        sized(SEED_BYTES_MAX + 5, -5),
        sized(*([1] * (MACHINES_MAX + 1))),
    ],
)
def test_what_is_announced_is_bounded(begin: SeedBegins) -> None:
    receiver = SeedReceiver()
    receiver.receive(begins([b"unfinished"]), NOTHING)
    with pytest.raises(MessageError, match="was announced"):
        receiver.receive(begin, NOTHING)
    assert receiver.receive(SeedPiece(1, 0), memoryview(b"unfinished")) is None


def test_what_is_announced_may_be_as_large_as_the_bounds() -> None:
    """And is not believed before it comes: nothing of that size is made."""
    receiver = SeedReceiver()
    assert receiver.receive(sized(SEED_BYTES_MAX), NOTHING) is None
    assert receiver.receive(SeedPiece(1, 0), memoryview(bytes(100))) is None
    assert receiver.receive(sized(*([0] * MACHINES_MAX)), NOTHING) is not None


@_settings
@given(
    st.lists(
        st.one_of(
            st.builds(SeedPiece, st.integers(0, 2), st.integers(-1, 3)),
            st.builds(begins, contents, st.integers(0, 2)),
        ),
        max_size=12,
    ),
    st.binary(max_size=20),
)
def test_any_order_of_messages_is_refused_or_gives_what_was_announced(
    messages: list[SeedMessage], data: bytes
) -> None:
    receiver = SeedReceiver()
    last: SeedBegins | None = None
    for message in messages:
        if isinstance(message, SeedBegins):
            last = message
        try:
            result = receiver.receive(message, memoryview(data))
        except MessageError:
            continue
        if result is not None:
            assert last is not None
            found = [(item.name, len(item.data), crc32c(item.data)) for item in seed_of(result).machines]
            assert found == [(file.name, file.size_bytes, file.crc) for file in last.files]


def test_messages_are_written_and_read_as_one_kind_or_the_other() -> None:
    decoder: msgspec.msgpack.Decoder[SeedMessage] = msgspec.msgpack.Decoder(SeedMessage)
    for message in (begins([b"abc"]), SeedPiece(3, 1)):
        assert decoder.decode(msgspec.msgpack.encode(message)) == message
