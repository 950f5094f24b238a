"""A real broker: a queue group's life over HTTP, over a restart, and as people see it."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from penstock.testing.queue_client import QueueClient, RefusedError, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.process import BrokerProcess

_numbers = itertools.count()
Made = tuple[QueueClient, str]


@pytest.fixture
def make(broker: BrokerProcess) -> Callable[..., Made]:
    """Makes a topic with messages and a queue group on it."""

    def made(*values: str, partitions: int = 1, **settings: object) -> Made:
        number = next(_numbers)
        topic, group = f"topic-{number}", f"group-{number}"
        call(broker.admin, "/v1/topics", {"name": topic, "partitions": partitions})
        produce(broker, topic, *values)
        client = QueueClient(broker.http, broker.admin, group)
        client.declare(topic, **settings)
        return client, topic

    return made


def produce(broker: BrokerProcess, topic: str, *values: str) -> None:
    if values:
        messages = [{"value": value, "key": "k", "headers": {"h": "1"}} for value in values]
        call(broker.http, f"/v1/topics/{topic}/messages", {"messages": messages})


def values(messages: list[dict[str, Any]]) -> list[str]:
    return [message["value"] for message in messages]


def receipts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["receipt"] for message in messages]


def until(done: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


def metrics(broker: BrokerProcess) -> dict[str, float]:
    with urllib.request.urlopen(f"{broker.admin}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rpartition(" ") for line in lines if line.startswith("penstock_queue_"))
    return {name: float(value) for name, _, value in found}


def test_a_message_is_leased_by_one_and_done(make: Callable[..., Made]) -> None:
    client, topic = make("a", "b", "c")
    [first] = client.lease()
    assert (first["value"], first["key"], first["headers"]) == ("a", "k", {"h": "1"})
    assert (first["topic"], first["partition"], first["offset"], first["deliveries"]) == (topic, 0, 0, 1)
    assert first["leaseUntil"] - time.time() * 1000 == pytest.approx(30_000, abs=10_000)
    rest = client.lease(10)
    assert values(rest) == ["b", "c"]
    assert client.lease(10) == []
    assert client.settle("acknowledge", receipts([first, *rest])) == dict.fromkeys(
        receipts([first, *rest]), ""
    )
    view = client.view()
    assert (view["mode"], view["lag"], view["queue"]["inFlight"]) == ("queue", 0, 0)


def test_a_lease_that_ran_out_is_refused_and_the_message_comes_again(make: Callable[..., Made]) -> None:
    client, _ = make("a", retry={"backoff": {"initialMs": 0, "jitter": 0}})
    [first] = client.lease(lease_ms=200)
    [again] = client.lease(wait_ms=10_000)
    assert (again["value"], again["deliveries"]) == ("a", 2)
    assert set(client.settle("acknowledge", receipts([first])).values()) == {"INVALID_RECORD_STATE"}
    assert set(client.settle("acknowledge", receipts([again])).values()) == {""}
    assert set(client.settle("acknowledge", receipts([again])).values()) == {"INVALID_RECORD_STATE"}


def test_released_extended_and_rejected(make: Callable[..., Made]) -> None:
    client, _ = make("a", "b", retry={"backoff": {"initialMs": 300, "jitter": 0}})
    first, second = client.lease(2)
    client.settle("release", receipts([first]))
    [back] = client.lease()
    assert (back["value"], back["deliveries"]) == ("a", 1)
    assert set(client.settle("extend", receipts([back]), leaseMs=60_000).values()) == {""}
    client.settle("reject", receipts([second]))
    assert client.view()["queue"]["waiting"] == 1
    assert client.lease() == [], "the back-off is not over"
    [again] = client.lease(wait_ms=10_000)
    assert (again["value"], again["deliveries"]) == ("b", 2)
    client.settle("reject", receipts([again]), delayMs=0)
    assert [message["deliveries"] for message in client.lease(wait_ms=10_000)] == [3]


def test_what_is_given_up_is_in_the_dead_letter_topic(
    make: Callable[..., Made], broker: BrokerProcess
) -> None:
    client, topic = make("fine", "poison", deadLetter={"topicName": "graveyard"}, retry={"maxDeliveries": 2})
    fine, poison = client.lease(2)
    client.settle("acknowledge", receipts([fine]))
    client.settle("reject", receipts([poison]), delayMs=0)
    client.settle("reject", receipts(client.lease(wait_ms=5_000)))
    until(lambda: client.view()["queue"]["deadLetters"] == 1, "dead letter")
    buried: list[dict[str, Any]] = []

    def is_there() -> bool:
        try:
            buried[:] = call(broker.http, "/v1/topics/graveyard/messages")["messages"]
        except RefusedError:
            return False
        return bool(buried)

    until(is_there, "dead letter in its topic")
    [letter] = buried
    assert (letter["value"], letter["key"]) == ("poison", "k")
    told = letter["headers"]
    assert told["h"] == "1"
    assert told["penstock-dlq-cause"] == "rejected"
    assert told["penstock-dlq-deliveries"] == "2"
    assert (told["penstock-dlq-topic"], told["penstock-dlq-offset"]) == (topic, "1")
    assert client.lease() == []


def test_a_full_window_is_said(make: Callable[..., Made]) -> None:
    client, _ = make("a", "b", "c", lease={"maxInFlight": 2})
    held = client.lease(10)
    assert client.post("lease", {"max": 10}) == {"messages": [], "windowFull": True}
    assert client.view()["queue"]["windowFull"] is True
    client.settle("acknowledge", receipts(held))
    assert values(client.lease(10)) == ["c"]


def test_a_group_can_go_through_everything_again(make: Callable[..., Made], broker: BrokerProcess) -> None:
    client, topic = make("a", "b")
    first, second = client.lease(2)
    client.settle("acknowledge", receipts([first]))
    answer = call(broker.admin, f"/v1/groups/{client.group}/reset", {"to": {"at": "earliest"}})
    assert answer["offsets"] == [{"topic": topic, "partition": 0, "from": 1, "to": 0}]
    assert [(m["value"], m["deliveries"]) for m in client.lease(10)] == [("a", 1), ("b", 1)]
    assert set(client.settle("acknowledge", receipts([second])).values()) == {"INVALID_RECORD_STATE"}


def test_leases_and_what_is_done_survive_a_restart(make: Callable[..., Made], broker: BrokerProcess) -> None:
    client, _ = make("a", "b", "c")
    first, second = client.lease(2)
    client.settle("acknowledge", receipts([first]))
    broker.kill()
    broker.start()
    assert values(client.lease(10)) == ["c"], "b is held still"
    assert set(client.settle("acknowledge", receipts([second])).values()) == {""}
    assert client.view()["lag"] == 1


def test_a_deleted_group_or_topic_begins_anew(make: Callable[..., Made], broker: BrokerProcess) -> None:
    client, topic = make("a")
    client.settle("acknowledge", receipts(client.lease()))
    call(broker.admin, f"/v1/groups/{client.group}", method="DELETE")
    with pytest.raises(RefusedError, match="declare it first") as refused:
        client.lease()
    assert refused.value.status == 404
    client.declare(topic)
    [held] = client.lease()
    call(broker.admin, f"/v1/topics/{topic}", method="DELETE")
    assert set(client.settle("acknowledge", receipts([held])).values()) == {"INVALID_REQUEST"}
    call(broker.admin, "/v1/topics", {"name": topic})
    produce(broker, topic, "new")
    assert values(client.lease(wait_ms=5_000)) == ["new"]


REFUSED_DECLARATIONS: list[tuple[dict[str, object], str]] = [
    ({"ordering": "key"}, "not available in this release"),
    ({"filter": {"tags": "a"}}, "not available in this release"),
    ({"retry": {"maxDeliveries": 0}}, "retry.maxDeliveries is 0"),
    ({"lease": {"durationMs": 10**12}}, "lease.duration"),
    ({"retry": {"backoff": {"factor": 0.5}}}, "retry.backoff.factor"),
    ({"deadLetter": {"topicName": "no/topic"}}, "Dead letters cannot go to"),
    ({"mode": "stream", "lease": {}}, "are for mode 'queue'"),
    ({"mode": "broadcast"}, "not available in this release"),
    ({"priority": 1}, "unknown field"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED_DECLARATIONS)
def test_a_declaration_is_refused_with_a_sentence(
    make: Callable[..., Made], changes: dict[str, object], sentence: str
) -> None:
    client, topic = make()
    client.group += "-other"
    with pytest.raises(RefusedError) as refused:
        client.declare(topic, **changes)
    assert sentence in refused.value.detail
    assert refused.value.status == 400


def test_modes_do_not_mix(make: Callable[..., Made], broker: BrokerProcess) -> None:
    client, topic = make("a")
    with pytest.raises(RefusedError, match="cannot be changed"):
        call(broker.admin, f"/v1/groups/{client.group}", {"topics": [topic]}, "PUT")
    with pytest.raises(RefusedError, match="which it works through itself"):
        client.declare(topic, deadLetter={"topicName": topic})
    stream = QueueClient(broker.http, broker.admin, f"{client.group}-stream")
    call(broker.admin, f"/v1/groups/{stream.group}", {"topics": [topic]}, "PUT")
    with pytest.raises(RefusedError, match="only groups of mode 'queue'") as refused:
        stream.lease()
    assert (refused.value.status, refused.value.code) == (409, "INCONSISTENT_GROUP_PROTOCOL")


HOSTILE: list[tuple[str, object]] = [
    ("lease", {"max": 0}),
    ("lease", {"max": 1001}),
    ("lease", {"waitMs": -1}),
    ("lease", {"waitMs": 30_001}),
    ("lease", {"leaseMs": 0}),
    ("lease", {"leaseMs": 10**18}),
    ("lease", {"member": "m" * 101}),
    ("lease", {"unknown": 1}),
    ("lease", []),
    ("acknowledge", {}),
    ("acknowledge", {"receipts": []}),
    ("acknowledge", {"receipts": ["r"] * 1001}),
    ("acknowledge", {"receipts": ["r" * 201]}),
    ("acknowledge", {"receipts": [1]}),
    ("reject", {"receipts": ["r"], "delayMs": -1}),
    ("reject", {"receipts": ["r"], "delayMs": 10**15}),
    ("extend", {"receipts": ["r"]}),
    ("extend", {"receipts": ["r"], "leaseMs": 10**15}),
]


def test_hostile_requests_are_refused_and_hostile_receipts_answered(make: Callable[..., Made]) -> None:
    client, _ = make("a")
    for verb, body in HOSTILE:
        with pytest.raises(RefusedError) as refused:
            client.post(verb, body)
        assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST"), (verb, body)
        assert refused.value.detail
    texts = ["", "x", "A" * 28, "_" * 28, "\u0000", "ü" * 28]
    for verb in ("acknowledge", "release", "reject"):
        assert set(client.settle(verb, texts).values()) <= {"INVALID_REQUEST", "INVALID_RECORD_STATE"}
    assert values(client.lease()) == ["a"]


def test_metrics_count_what_happens(make: Callable[..., Made], broker: BrokerProcess) -> None:
    client, _ = make("a", "b", "c")
    before = metrics(broker)
    first, second, third = client.lease(3)
    client.settle("acknowledge", receipts([first]))
    client.settle("reject", receipts([second]))
    client.settle("release", receipts([third]))
    after = metrics(broker)
    for name, more in {"leased": 3, "acknowledged": 1, "rejected": 1, "released": 1, "expired": 0}.items():
        full = f"penstock_queue_{name}_total"
        assert after[full] - before[full] == more, name
    assert after[f'penstock_queue_open{{group="{client.group}"}}'] == 2
    assert json.dumps(client.view()["queue"])
