"""The commands of queue groups: what they ask for, what they print, and how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from penstock.codec.records import Record
from penstock.model.errors import ErrorCode
from penstock.service.queue_api import Leased, LeasedMessage, LeaseRequest, ReceiptResult

if TYPE_CHECKING:
    from conftest import Cli, Server


def test_what_is_leased_is_printed_with_its_receipt(cli: Cli, server: Server) -> None:
    queues = server.services.queues
    queues.leased = Leased(
        [
            LeasedMessage("r1", "t", 0, Record(None, b"one\x1b[2J", 1, (), 4), 1, 9),
            LeasedMessage("r2", "t", 1, Record(None, b"\xff", 1, (), 5), 2, 9),
            LeasedMessage("r3", "t", 1, Record(None, None, 1, (), 6), 1, 9),
        ]
    )
    result = cli("lease", "work", "--max", "3", "--wait", "1s", "--for", "2m", "--member", "me")
    assert result.out == (
        'r1  t/0/4 delivery 1\tone\\x1b[2J\nr2  t/1/5 delivery 2\t{"base64":"/w=="}\nr3  t/1/6 delivery 1\t(null)\n'
    )
    assert queues.asked == [("lease", LeaseRequest("work", 3, 1_000, 120_000, "me"))]
    assert len(json.loads(cli("lease", "work", "--json").out)["messages"]) == 3


def test_nothing_to_lease_is_said_with_its_reason(cli: Cli, server: Server) -> None:
    result = cli("lease", "work")
    assert (result.code, result.out) == (0, "")
    assert result.err == "work: there is nothing to do now\n"
    server.services.queues.leased = Leased(window_full=True)
    assert "in flight" in cli("lease", "work").err


def test_receipts_are_settled_and_refusals_end_with_an_error(cli: Cli, server: Server) -> None:
    queues = server.services.queues
    assert cli("ack", "work", "r1", "r2").out == "2 of 2 acknowledged\n"
    assert cli("reject", "work", "r1", "--delay", "5s").out == "1 of 1 rejected\n"
    assert cli("reject", "work", "r1", "--no-retry").code == 0
    assert cli("release", "work", "r1").out == "1 of 1 released\n"
    assert cli("extend", "work", "r1", "--for", "1m").out == "1 of 1 extended\n"
    assert queues.asked == [
        ("acknowledge", "work", ["r1", "r2"]),
        ("reject", "work", ["r1"], True, 5_000),
        ("reject", "work", ["r1"], False, None),
        ("release", "work", ["r1"]),
        ("extend", "work", ["r1"], 60_000),
    ]
    queues.results["r2"] = ReceiptResult("r2", ErrorCode.INVALID_RECORD_STATE, "It ran out.")
    result = cli("ack", "work", "r1", "r2")
    assert (result.code, result.out, result.err) == (1, "1 of 2 acknowledged\n", "r2: It ran out.\n")
    assert cli("ack", "work", "r2", "--json").code == 1


def test_a_duration_is_written_as_one(cli: Cli) -> None:
    result = cli("lease", "work", "--wait", "soon")
    assert result.code == 2
    assert "is not written like" in result.err


def test_a_queue_group_is_declared_and_described(cli: Cli, server: Server) -> None:
    server.services.add_topic("t")
    declared = cli(
        "group", "declare", "work", "--topic", "t", "--mode", "queue", "--lease", "1m", "--max-deliveries", "3",
        "--backoff", "1s", "--backoff-max", "1h", "--dead-letters", "dead", "--max-in-flight", "5",
    )  # fmt: skip
    assert declared.out == "group work declared for t\n"
    detail = server.services.groups.groups["work"].queue
    assert detail is not None
    settings = detail.settings
    assert (settings.lease_ms, settings.deliveries_max, settings.in_flight_max) == (60_000, 3, 5)
    assert (settings.backoff.initial_ms, settings.backoff.max_ms) == (1_000, 3_600_000)
    detail.in_flight, detail.window_full, detail.oldest_ms = 4, True, 0
    shown = cli("group", "describe", "work").out
    assert "in flight 4  waiting 0  dead letters 0 (dead)  oldest" in shown
    assert "nothing new is handed out: 5 messages" in shown
