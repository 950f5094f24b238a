"""Both APIs over three real brokers: whichever is asked answers, before and after the leadership moved."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_TIMEOUT_S = 20.0
FAILOVER_S = 20.0


class Apis:
    """Requests to one broker's listeners; each gives status and document."""

    def __init__(self, shard: ShardProcesses, ordinal: int) -> None:
        broker = shard.brokers[ordinal]
        self._addresses = {"http": broker.http, "admin": broker.admin}

    def __call__(self, listener: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._addresses[listener]}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, content = error.code, error.read()
        return status, json.loads(content) if content else None

    def metrics(self) -> str:
        with urllib.request.urlopen(
            f"{self._addresses['admin']}/metrics", timeout=ANSWER_TIMEOUT_S
        ) as answer:
            return str(answer.read(), "utf-8")

    def values(self) -> dict[str, float]:
        """Each series as it is written to its value."""
        lines = (line for line in self.metrics().splitlines() if not line.startswith("#"))
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {series: float(value) for series, value in pairs}


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[ShardProcesses]:
    with ShardProcesses(tmp_path) as running:
        yield running


def everybody(shard: ShardProcesses) -> list[Apis]:
    return [Apis(shard, ordinal) for ordinal in range(shard.replicas)]


def values(page: Any) -> list[str]:
    return [message["value"] for message in page["messages"]]


def test_every_broker_serves_every_kind_of_request(shard: ShardProcesses) -> None:
    apis = everybody(shard)
    for number, api in enumerate(apis):
        topic = f"topic-{number}"
        assert api("admin", "POST", "/v1/topics", {"name": topic, "partitions": 2})[0] == 201
        messages = {"messages": [{"value": f"{topic} {n}", "partition": 0} for n in range(3)]}
        assert api("http", "POST", f"/v1/topics/{topic}/messages", messages)[0] == 200
        assert api("admin", "PATCH", f"/v1/topics/{topic}", {"partitions": 3})[0] == 200
        declared = {"mode": "stream", "topics": [topic], "start": {"at": "earliest"}}
        assert api("admin", "PUT", f"/v1/groups/group-{number}", declared)[0] == 201
    for api in apis:
        for number in range(len(apis)):
            topic = f"topic-{number}"
            assert api("http", "GET", f"/v1/topics/{topic}")[1]["partitions"] == 3
            _, page = api("http", "GET", f"/v1/topics/{topic}/partitions/0/messages")
            assert values(page) == [f"{topic} {n}" for n in range(3)]
            assert api("admin", "GET", f"/v1/groups/group-{number}")[1]["lag"] == 3
        assert api("http", "GET", "/v1/topics/none")[0] == 404
        assert api("admin", "POST", "/v1/topics", {"name": "topic-0", "partitions": 1})[0] == 409
        status, problem = api("http", "GET", "/v1/topics/topic-0/partitions/0/messages?offset=9")
        assert (status, problem["highWatermark"]) == (416, 3)
    names = [api("admin", "GET", "/v1/broker")[1]["name"] for api in apis]
    assert names == [shard.name(ordinal) for ordinal in range(shard.replicas)]
    metrics = [api.metrics() for api in apis]
    assert sum("penstock_group_lag{" in text for text in metrics) == 1
    assert sum('penstock_requests_forwarded_total{protocol="http"} 0.0' in text for text in metrics) <= 1
    shard.agreed()


def test_what_only_the_leader_knows_is_shown_by_the_leader_alone(shard: ShardProcesses) -> None:
    apis = everybody(shard)
    assert apis[0]("admin", "POST", "/v1/topics", {"name": "orders", "partitions": 1})[0] == 201
    for number in range(3):
        assert produce_once(apis[number], f"message {number}")[0] == 200
    declared = {"mode": "stream", "topics": ["orders"], "start": {"at": "earliest"}}
    assert apis[0]("admin", "PUT", "/v1/groups/billing", declared)[0] == 201
    leader = shard.leader()
    follower, gone = shard.followers()
    shown_alone(apis, leader, {shard.name(follower), shard.name(gone)})
    # What each knows of its own copy, each shows; followers hear a little later what is committed.
    stored = 'penstock_topic_messages{topic="orders"}'
    shard.wait_until(lambda: [api.values()[stored] for api in apis] == [3, 3, 3], "copy of all messages")
    shard.kill(gone)
    api = apis[leader]
    shard.wait_until(lambda: api.values()["penstock_members_in_sync"] == 2, "follower that is out of sync")
    assert produce_once(api, "one more")[0] == 200
    after = api.values()
    assert (after["penstock_members"], after["penstock_members_wanted"]) == (3, 3)
    assert after[f'penstock_member_lag_entries{{member="{shard.name(gone)}"}}'] >= 1
    assert after[f'penstock_member_lag_bytes{{member="{shard.name(gone)}"}}'] > 0
    assert after['penstock_group_lag{group="billing"}'] == 4
    epoch, leaderships = after["penstock_epoch"], apis[follower].values()["penstock_leaderships_total"]
    assert shard.hand_over(follower) == follower
    both = [apis[ordinal] for ordinal in (leader, follower)]
    shard.wait_until(
        lambda: (both[0].values()["penstock_leader"], both[0].values()["penstock_leader_known"]) == (0, 1),
        "former leader that follows",
    )
    shown_alone(both, 1, {shard.name(leader), shard.name(gone)})
    now = both[1].values()
    assert now["penstock_epoch"] > epoch
    assert now["penstock_leaderships_total"] == leaderships + 1
    assert now['penstock_group_lag{group="billing"}'] == 4


def shown_alone(apis: list[Apis], leader: int, followers: set[str]) -> None:
    """The series that a leader has, and nobody else; all of them know that there is one."""
    shown = [api.values() for api in apis]
    assert [values["penstock_leader"] for values in shown] == [
        number == leader for number in range(len(apis))
    ]
    assert [values["penstock_leader_known"] for values in shown] == [1] * len(apis)
    lags = {f'penstock_member_lag_entries{{member="{name}"}}' for name in followers}
    for number, values in enumerate(shown):
        series = {name for name in values if name.startswith(("penstock_member", "penstock_group"))}
        if number != leader:
            assert series == set()
        else:
            assert lags <= series
            assert {"penstock_members", "penstock_members_in_sync", "penstock_members_wanted"} <= series
            assert {f'penstock_group_{what}{{group="billing"}}' for what in ("lag", "members")} <= series
            assert 0 <= values['penstock_group_lag_seconds{group="billing"}'] < FAILOVER_S * 3


def test_requests_follow_the_leadership(shard: ShardProcesses) -> None:
    apis = everybody(shard)
    assert apis[0]("admin", "POST", "/v1/topics", {"name": "orders", "partitions": 1})[0] == 201
    before = shard.leader()
    follower = shard.followers()[0]
    status, answer = apis[follower]("admin", "POST", "/v1/shard/hand-over", {"to": shard.name(follower)})
    assert (status, answer["leader"]) == (200, shard.name(follower))
    assert shard.leader() == follower != before
    for number, api in enumerate(apis):
        status, _ = produce_once(api, f"after the hand-over {number}")
        assert status == 200
    shard.kill(follower)
    survivors = [api for ordinal, api in enumerate(apis) if ordinal != follower]
    for number, api in enumerate(survivors):
        eventually_produces(api, f"after the failover {number}")
    _, page = survivors[0]("http", "GET", "/v1/topics/orders/messages")
    stored = values(page)
    assert stored[:3] == [f"after the hand-over {number}" for number in range(3)]
    # A refusal says whether the message may have been stored; one that says no was sent again here.
    assert {*stored[3:]} == {"after the failover 0", "after the failover 1"}


def produce_once(api: Apis, value: str) -> tuple[int, Any]:
    return api("http", "POST", "/v1/topics/orders/messages", {"messages": [{"value": value}]})


def eventually_produces(api: Apis, value: str) -> None:
    """Every answer on the way is one that the documentation names."""
    deadline = time.monotonic() + FAILOVER_S
    while True:
        status, document = produce_once(api, value)
        if status == 200:
            return
        assert status in (503, 504), document
        assert time.monotonic() < deadline, document
        time.sleep(0.05)
