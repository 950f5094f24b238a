"""Expected spans against what brokers and applications send, on processes of this machine; and the comparison itself, which must
see whatever is wrong with a span."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # it has no __all__

from expected_spans import Expected, Led, Read, Sent
from otlp_json import spans_of
from penstock.testing.master_slave_processes import MasterSlaveProcesses
from penstock.testing.otlp_receiver import ReceivedSpan
from penstock.testing.shard_processes import ShardProcesses
from span_rows import OneOf, Row, Text, Whole, differences, mistimed, rows
from trace_story import TOPIC, play
from traced_app import TracedApp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
MODES = {"Raft": (ShardProcesses, 3), "MasterSlave": (MasterSlaveProcesses, 2)}


@dataclass
class ProcessStage:
    """See `trace_story.Stage`."""

    shard: ShardProcesses
    endpoint: str
    expected: Expected

    def application(self, role: str, name: str) -> TracedApp:
        arguments = ["--bootstrap", self.shard.kafka, "--topic", TOPIC, "--collector", self.endpoint]
        program = str(HERE / "pod_traced.py")
        return TracedApp([sys.executable, program, role, name, *arguments], os.environ)

    def leading(self) -> Led:
        leader = self.shard.leader()
        return Led(self.shard.name(leader), self.shard.view(leader).epoch)

    def take_leader_away(self) -> None:
        """Its process is started again at once, as a kubelet does it."""
        leader = self.shard.leader()
        self.shard.kill(leader)
        self.shard.brokers[leader].launch_only()

    def wait_whole(self) -> None:
        self.shard.start()

    def spans(self) -> list[ReceivedSpan]:
        with urllib.request.urlopen(f"{self.endpoint}/spans", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=list[ReceivedSpan])

    def wait_for(self, what: str, holds: Callable[[], bool], seen: Callable[[], str]) -> None:
        try:
            self.shard.wait_until(holds, what)
        except Exception as error:
            raise AssertionError(f"{error}\n{seen()}") from error


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A collector's."""
    command = [sys.executable, str(HERE / "pod_receiver.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        yield json.loads(receiver.stdout.readline())["endpoint"]
        receiver.kill()


@pytest.mark.clients
@pytest.mark.parametrize("mode", MODES)
def test_every_span_of_a_failover_is_as_documented(
    tmp_path: Path, endpoint: str, mode: str, record_property: Callable[[str, object], None]
) -> None:
    kind, replicas = MODES[mode]
    config = {"tracing.endpoint": endpoint, "tracing.sampling": 0, "min.insync.replicas": 2}
    with kind(tmp_path, replicas=replicas, config=config) as shard:
        admin = AdminClient({"bootstrap.servers": shard.kafka})
        (made,) = admin.create_topics([NewTopic(TOPIC, 1)]).values()
        made.result(30)
        brokers = tuple(shard.name(ordinal) for ordinal in range(replicas))
        expected = Expected(TOPIC, "test", brokers, pods=False)
        record_property("load", play(ProcessStage(shard, endpoint, expected)))


# --- the comparison -------------------------------------------------------------------------------

FIRST, SECOND = Led("test-0-0", 1), Led("test-0-1", 2)
MESSAGE = Sent("order-1", 0, FIRST)
READ = Read("billing", (MESSAGE,), SECOND)
EXPECTED = Expected(TOPIC, "test", ("test-0-0", "test-0-1"), pods=False)
TRACE, READ_TRACE, SEND, RECEIVE, RECV = "a" * 32, "b" * 32, "1" * 16, "2" * 16, "3" * 16


def plausible() -> list[ReceivedSpan]:
    """What EXPECTED wants of MESSAGE and READ."""
    ids = {"order-1 send": SEND, "order-1 receive": RECEIVE, "order-1 recv by billing": RECV}
    spans = []
    for number, (name, row) in enumerate(EXPECTED.rows([MESSAGE], [READ]).items()):
        spans.append(
            ReceivedSpan(
                row.name,
                row.kind,
                TRACE if row.trace == "order-1" else READ_TRACE,
                ids.get(name, f"{number:016x}"),
                ids.get(row.parent, ""),
                10,
                20,
                {key: plain(value) for key, value in row.attributes.items()},
                dict(row.resource),
                [],
                [(TRACE, ids[link]) for link in row.links],
                None,
                "",
            )
        )
    return spans


def plain(value: object) -> object:
    """Something that fits a pattern."""
    if isinstance(value, Text):
        return "billing-1"
    return 2 if isinstance(value, Whole | OneOf) else value


def told(spans: list[ReceivedSpan], **allowed: tuple[int, Row]) -> list[str]:
    found = rows(spans, TOPIC, ["order-1"])
    return differences(found, EXPECTED.rows([MESSAGE], [READ]), allowed) + mistimed(spans)


def one(spans: list[ReceivedSpan], name: str) -> ReceivedSpan:
    return next(span for span in spans if span.name.startswith(name))


def test_what_is_expected_is_in_order() -> None:
    assert told(plausible()) == []


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("append", {"parent_id": SEND}, "order-1 append: parent is 'order-1 send', not 'order-1 receive'"),
        ("append", {"parent_id": ""}, "order-1 append: parent is '', not 'order-1 receive'"),
        ("append", {"kind": "SERVER"}, "order-1 append: kind is 'SERVER', not 'INTERNAL'"),
        ("append", {"end_ns": 9}, "append payments of order-1 from 10 to 9"),
        ("append", {"start_ns": 9}, "append payments of order-1 from 9 to 20"),
        ("deliver", {"links": []}, "order-1 deliver to billing: links is [], not ['order-1 send']"),
        ("deliver", {"trace_id": READ_TRACE}, "order-1 deliver to billing: trace is 'order-1 recv by billing'"),
        ("replicate", {"error": "lost"}, "order-1 replicate: error is 'lost', not None"),
        ("receive", {"name": "receive other"}, "order-1 receive: name is 'receive other'"),
        ("receive", {"events": [("penstock.failover", {})]}, "order-1 receive: events is"),
    ],
)  # fmt: skip
def test_a_span_that_is_wrong_is_told(name: str, change: dict[str, Any], sentence: str) -> None:
    spans = plausible()
    for field, value in change.items():
        setattr(one(spans, name), field, value)
    assert any(sentence in line for line in told(spans)), told(spans)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("penstock.epoch", 3),
        ("penstock.log.index", True),
        ("penstock.log.index", None),
        ("messaging.message.envelope.size", 1),
        ("anything", "else"),
    ],
)
def test_an_attribute_that_is_wrong_is_told(attribute: str, value: object) -> None:
    spans = plausible()
    one(spans, "receive").attributes[attribute] = value
    (line,) = told(spans)
    assert line.startswith(f"order-1 receive: attributes {attribute} is {value!r}, not ")


def test_a_resource_that_is_wrong_is_told() -> None:
    spans = plausible()
    one(spans, "deliver").resource["service.instance.id"] = "test-0-0"
    assert told(spans) == [
        "order-1 deliver to billing: resource service.instance.id is 'test-0-0', not 'test-0-1'"
    ]


def test_what_is_missing_and_what_is_too_much_is_told() -> None:
    spans = plausible()
    settle = one(spans, "settle")
    assert told([span for span in spans if span is not settle]) == ["order-1 settle to billing is missing"]
    strange = msgspec.structs.replace(settle, span_id="9" * 16)
    assert told([*spans, strange])[0].startswith("order-1 settle to billing #2 is unexpected")


def test_what_may_come_is_held_against_its_row_and_counted() -> None:
    spans = plausible()
    (times, refused) = EXPECTED.allowed([Sent("order-1", 0, FIRST, leaderless=True)], [])["order-1 refused"]
    tried = msgspec.structs.replace(
        one(spans, "receive"),
        span_id="8" * 16,
        attributes={key: plain(value) for key, value in refused.attributes.items()}
        | {"error.type": "NOT_ENOUGH_REPLICAS"},
        events=[("penstock.refused", {"error.type": "NOT_ENOUGH_REPLICAS", "penstock.message": "alone"})],
        error="alone",
    )
    may = {"order-1 refused": (1, refused)}
    assert times > 1
    assert told([*spans, tried], **may) == []
    assert told([*spans, tried])[0].startswith("order-1 refused is unexpected")
    assert told([*spans, tried, tried], **may) == ["order-1 refused came 2 times, at most 1 are expected"]
    other = msgspec.structs.replace(tried, attributes={**tried.attributes, "error.type": "CORRUPT_MESSAGE"})
    assert told([*spans, other], **may)[0].startswith(
        "order-1 refused: attributes error.type is 'CORRUPT_MESSAGE'"
    )


def test_a_collectors_file_is_read_as_its_spans() -> None:
    pairs = [
        {"key": "text", "value": {"stringValue": "a"}},
        {"key": "number", "value": {"intValue": "7"}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "b"}]}}},
    ]
    span = {
        "traceId": TRACE, "spanId": SEND, "parentSpanId": RECEIVE, "name": "receive payments", "kind": 2,
        "startTimeUnixNano": "10", "endTimeUnixNano": "20", "attributes": pairs, "traceState": "a=b",
        "events": [{"name": "penstock.refused", "timeUnixNano": "15", "attributes": pairs[:1]}],
        "links": [{"traceId": READ_TRACE, "spanId": RECV}], "status": {"message": "no", "code": 2},
    }  # fmt: skip
    line = json.dumps(
        {"resourceSpans": [{"resource": {"attributes": pairs[1:2]}, "scopeSpans": [{"spans": [span]}]}]}
    )
    (found,) = spans_of(f"{line}\n{line[:20]}")
    assert found == ReceivedSpan(
        "receive payments", "SERVER", TRACE, SEND, RECEIVE, 10, 20, {"text": "a", "number": 7, "list": ["b"]},
        {"number": 7}, [("penstock.refused", {"text": "a"})], [(READ_TRACE, RECV)], "no", "a=b",
    )  # fmt: skip
