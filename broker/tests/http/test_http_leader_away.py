"""Leaders that are not there, do not answer or go away: each is an answer with a sentence, and nothing is done twice."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http import leader_proxy
from penstock.listeners.http.limits import DATA_BODY_BYTES_MAX
from penstock.testing.http_leaders import OK, answering, ending, following, problem, scripted, silent

MESSAGES = "/v1/topics/orders/messages"


async def test_brokers_that_name_each_other_do_not_send_a_request_in_circles() -> None:
    async with following(None) as (one, session), following(one.listener.address) as (two, _):
        one.leadership.name, two.leadership.name = "orders-0-1", "orders-0-2"
        one.leadership.addresses["http"] = two.listener.address
        status, document = await problem(session, "POST", MESSAGES, json={})
        assert (status, document["code"]) == (503, "NOT_LEADER_OR_FOLLOWER")
        assert document["detail"].startswith(
            "'orders-0-1' passed this request on to 'orders-0-2', which does not lead"
        )
        assert (one.forwarded, two.forwarded) == (1, 0)
        assert (one.errors, two.errors) == ({}, {"NOT_LEADER_OR_FOLLOWER": 1})


async def test_while_no_leader_is_known_a_request_is_refused_before_its_body_is_read() -> None:
    async with following(None) as (follower, session):
        for method, path in (("GET", "/v1/topics"), ("POST", MESSAGES)):
            status, document = await problem(session, method, path)
            assert (status, document["code"]) == (503, "NOT_LEADER_OR_FOLLOWER")
            assert document["detail"] == "No broker is known to lead the shard now; ask again in a moment."

        async def unfinished() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        status, _ = await problem(session, "POST", MESSAGES, data=unfinished())
        assert status == 503
        assert follower.forwarded == 0
        assert follower.errors == {"NOT_LEADER_OR_FOLLOWER": 3}


async def test_a_leader_that_is_not_there_is_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()[:2]
    async with following(address) as (_, session):
        for method, path in (("GET", "/v1/topics"), ("POST", MESSAGES)):
            status, document = await problem(session, method, path, json=None if method == "GET" else {})
            assert (status, document["code"]) == (503, "NOT_LEADER_OR_FOLLOWER")
            assert document["detail"] == "The shard's leader cannot be reached now; ask again in a moment."


async def test_a_leader_that_takes_no_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_proxy, "LEADER_CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full, ExitStack() as stack:
        # Linux takes one connection more than the backlog says, and then answers nothing.
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with following(full.getsockname()) as (_, session):
            status, document = await problem(session, "POST", MESSAGES, json={})
    assert (status, document["code"]) == (503, "NOT_LEADER_OR_FOLLOWER")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_leader_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(leader_proxy, "LEADER_ANSWER_SECONDS", 0.05)
    async with scripted(silent) as (leader, address), following(address) as (_, session):
        body = {} if method == "POST" else None
        status, document = await problem(session, method, MESSAGES, json=body)
        assert (status, document["code"]) == (504, "REQUEST_TIMED_OUT")
        await asyncio.wait_for(leader.gone.wait(), 10)
        assert len(leader.requests) == 1


async def test_a_leader_that_does_not_even_read_the_request_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leader_proxy, "LEADER_ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with following(deaf.getsockname()) as (_, session):
            body = io.BytesIO(bytes(DATA_BODY_BYTES_MAX))
            status, document = await problem(session, "POST", MESSAGES, data=body)
    assert (status, document["code"]) == (504, "REQUEST_TIMED_OUT")


async def test_a_request_that_may_have_been_served_is_not_sent_again() -> None:
    """The first answer keeps the connection open, so that the second request meets one that ends under it."""
    async with scripted(answering(OK), ending()) as (leader, address), following(address) as (_, session):
        async with session.post(MESSAGES, json={"messages": []}) as answer:
            assert answer.status == 200
        status, document = await problem(session, "POST", MESSAGES, json={"messages": []})
        assert (status, document["code"]) == (504, "REQUEST_TIMED_OUT")
        assert "may have been served and was not sent again" in document["detail"]
        assert len(leader.requests) == 2


async def test_a_change_is_not_sent_again_either() -> None:
    async with (
        scripted(ending()) as (leader, address),
        following(address, AdminHttpListener) as (_, session),
    ):
        status, _ = await problem(session, "PATCH", "/v1/config", json={})
        assert (status, len(leader.requests)) == (504, 1)


async def test_a_question_is_asked_once_more() -> None:
    async with scripted(ending(), answering(OK)) as (leader, address), following(address) as (_, session):
        async with session.get("/v1/topics") as answer:
            assert (answer.status, await answer.read()) == (200, b"{}")
        assert len(leader.requests) == 2


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"])
async def test_a_question_that_gets_no_answer_is_refused(last_words: bytes) -> None:
    async with scripted(ending(last_words)) as (_, address), following(address) as (_, session):
        status, document = await problem(session, "GET", "/v1/topics")
        assert (status, document["code"]) == (503, "NOT_LEADER_OR_FOLLOWER")


async def test_what_is_not_http_is_no_answer() -> None:
    async with (
        scripted(ending(b"\x00\x00\x00\x0a garbage")) as (_, address),
        following(address) as (_, session),
    ):
        status, document = await problem(session, "POST", MESSAGES, json={})
        assert (status, document["code"]) == (504, "REQUEST_TIMED_OUT")
