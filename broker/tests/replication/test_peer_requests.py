"""Questions to a leader: each is answered, or told in time that it will not be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from penstock.codec.peer import KIND_ANSWER, Buffer, FrameReader, PeerFrame, encode_frame
from penstock.model.errors import ErrorCode, PenstockError
from penstock.runtime import peer_requests
from penstock.runtime.peer_requests import Ask, PeerRequests
from penstock.session.peer_connection import Greeting

OLD, NEW = 7, 8
LEADER = Greeting(
    cluster_id="c",
    shard_id=0,
    shard_uid="s",
    ordinal=0,
    member=OLD,
    storage_id="x",
    name="b0",
    release="1",
    feature_level=1,
    founded=True,
)


class Sent:
    """Links that keep what goes out."""

    def __init__(self) -> None:
        self.frames: list[PeerFrame] = []

    def send(self, member: int, buffers: Sequence[Buffer]) -> bool:
        assert member == OLD
        self.frames += FrameReader(1 << 20).feed(b"".join(buffers))
        return True


def ask(requests: PeerRequests) -> asyncio.Task[bytes]:
    return asyncio.create_task(
        requests.ask(OLD, b"?", listener="kafka", client_id="", client_host="", principal="")
    )


async def test_a_leader_that_hangs_is_not_waited_for_once_another_one_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_requests, "REPLACED_SECONDS", 0)
    links = Sent()
    requests = PeerRequests(links)
    hanging = ask(requests)
    await asyncio.sleep(0)
    requests.led_by(OLD)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not hanging.done(), "it leads"
    requests.led_by(NEW)
    with pytest.raises(PenstockError) as refused:
        await hanging
    assert refused.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_a_leader_that_is_only_finishing_is_heard() -> None:
    links = Sent()
    requests = PeerRequests(links)
    finishing = ask(requests)
    await asyncio.sleep(0)
    requests.led_by(NEW)
    asked = msgspec.msgpack.decode(links.frames[0].meta, type=Ask)
    answer = encode_frame(KIND_ANSWER, msgspec.msgpack.encode((asked.number, True)), [b"!"])
    for frame in FrameReader(1 << 20).feed(b"".join(answer)):
        requests.received(LEADER, frame)
    assert await finishing == b"!"
