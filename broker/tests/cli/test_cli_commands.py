"""The commands as a person and a script use them, against real HTTP servers over services in memory."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click
import pytest

from penstock.cli import consume as consume_module
from penstock.cli import searching
from penstock.cli.main import COMMANDS, penstock
from penstock.cli.output import printable, size_text
from penstock.codec.records import Record, build_batch
from penstock.service.trace_api import Verdict
from penstock.tracing.record import TraceRecord

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli, Server


FIND = ("message", "find", "--topic", "orders")


def every_command() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    context = click.Context(penstock)
    for name in COMMANDS:
        command = penstock.get_command(context, name)
        assert command is not None
        names.append((name,))
        if isinstance(command, click.Group):
            names += [(name, child) for child in command.commands]
    return names


@pytest.mark.parametrize("name", every_command(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(name: tuple[str, ...], cli: Cli) -> None:
    result = cli(*name, "--help")
    assert result.code == 0
    assert "Example" in result.out
    assert f"penstock {name[0]}" in result.out.split("Example", 1)[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = penstock.get_command(click.Context(penstock), name)
    assert command is not None
    assert command.get_short_help_str(200) == COMMANDS[name]


def test_help_names_commands_of_other_packages_without_importing_them() -> None:
    script = (
        "import sys; from penstock.cli.main import run; run(['--help']);"
        "print([name for name in ('penstock_operator', 'kopf', 'rich', 'aiohttp') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "  up  " in run.stdout
    assert run.stdout.endswith("[]\n")


def test_a_command_whose_packages_are_missing_says_which_extra(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None in sys.modules is how the import system itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "penstock_operator.local.command", None)
    result = cli("up", "x.yaml")
    assert result.code == 1
    assert "install penstock[operator]" in result.err


def test_messages_go_in_and_come_out(cli: Cli) -> None:
    result = cli("produce", "greetings", "one", "two", "--key", "k", "--header", "a=1")
    assert (result.code, result.out) == (0, "wrote 2 messages to greetings: 2 to partition 0\n")
    assert cli("consume", "greetings").out == "one\ntwo\n"
    lines = [json.loads(line) for line in cli("consume", "greetings", "--json").out.splitlines()]
    assert [(line["offset"], line["key"], line["value"], line["headers"]) for line in lines] == [
        (0, "k", "one", {"a": "1"}),
        (1, "k", "two", {"a": "1"}),
    ]
    assert "partition=0 offset=1" in cli("consume", "greetings", "-v").out
    assert " key=k a=1\ttwo" in cli("consume", "greetings", "-v").out
    assert cli("consume", "greetings", "--partition", "0", "--from", "1").out == "two\n"
    assert cli("consume", "greetings", "--limit", "1").out == "one\n"
    assert cli("consume", "greetings", "--from", "latest").out == ""
    assert (
        cli("consume", "greetings", "--from", "2020-01-01T00:00:00Z", "--partition", "0").out == "one\ntwo\n"
    )


def test_produce_prints_offsets_as_json(cli: Cli) -> None:
    result = cli("produce", "greetings", "one", "--json")
    assert json.loads(result.out) == {"offsets": [{"partition": 0, "offset": 0}]}


@pytest.mark.parametrize("source", ["file", "pipe"])
def test_lines_of_standard_input_are_messages(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    content = b"first\n\nbytes \xff\n" + b"\n".join(b"%d" % number for number in range(2500))
    if source == "file":
        (tmp_path / "in").write_bytes(content)
        number = os.open(tmp_path / "in", os.O_RDONLY)
    else:
        number, writer = os.pipe()
        assert os.write(writer, content) == len(content)
        os.close(writer)
    with io.TextIOWrapper(os.fdopen(number, "rb")) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli("produce", "lines").out.startswith("wrote 2503 messages to lines")
    out = cli("consume", "lines").out.splitlines()
    assert out[:3] == ["first", "", "base64:Ynl0ZXMg/w=="]
    assert out[3:] == [str(number) for number in range(2500)]


def test_topics_from_creation_to_deletion(cli: Cli) -> None:
    assert "penstock topic create" in cli("topic", "list").err
    made = cli("topic", "create", "payments", "--partitions", "3", "--config", "retention.ms=1000")
    assert (made.code, made.out) == (0, "topic payments made with 3 partitions\n")
    assert cli("topic", "list").out.splitlines() == [
        "NAME      PARTITIONS  MESSAGES  SIZE  CONFIG",
        "payments           3         0  0 B   retention.ms=1000",
    ]
    assert json.loads(cli("topic", "list", "--json").out)["topics"][0]["partitions"] == 3
    assert cli("topic", "alter", "payments", "--partitions", "4", "--reset", "retention.ms").code == 0
    described: dict[str, Any] = json.loads(cli("topic", "describe", "payments", "--json").out)
    assert (described["partitions"], described["config"]) == (4, {})
    assert "memory-0-0" in cli("topic", "describe", "payments").out
    again = cli("topic", "create", "payments")
    assert (again.code, again.err) == (1, "Error: There is a topic 'payments' already.\n")
    assert cli("topic", "delete", "payments").out == "topic payments deleted\n"
    gone = cli("topic", "describe", "payments")
    assert (gone.code, gone.out, gone.err) == (1, "", "Error: There is no topic 'payments'.\n")


def test_a_message_is_got_found_and_traced(cli: Cli, server: Server, tmp_path: Path) -> None:
    cli("produce", "orders", "first", "--key", "4711", "--header", "a=1")
    cli("produce", "orders", "other", "--key", "x")
    cli("produce", "orders", "second", "--key", "4711")
    server.services.messages.batches_per_request = 1
    got = cli("message", "get", "orders", "0", "0")
    assert got.code == 0
    assert "header     a=1" in got.out
    assert "No group has committed a position" in got.err
    assert cli("group", "declare", "billing", "--topic", "orders", "--start", "earliest").code == 0
    rows = cli("message", "get", "orders", "0", "2").out.splitlines()
    assert rows[-1].split()[:5] == ["billing", "no", "0", "2", "3"]
    found = [json.loads(line) for line in cli(*FIND, "--key", "4711", "--json").out.splitlines()]
    assert [(each["offset"], each["value"]["text"]) for each in found] == [(2, "second"), (0, "first")]
    assert "offset 2" in cli(*FIND, "--key-base64", "NDcxMQ==", "--limit", "1", "--since", "1h").out
    traced = cli("trace", "--topic", "orders", "--key", "4711")
    assert traced.out.splitlines()[0] == "orders, partition 0, offset 2"
    assert [line.split()[1] for line in traced.out.splitlines()[1:]] == [
        "produced",
        "appended",
        "committed",
        "unread",
    ]
    assert "Nobody followed it here: tracing is off" in traced.err
    events = json.loads(cli("trace", "--topic", "orders", "--partition", "0", "--offset", "0", "--json").out)
    assert events["message"]["offset"] == 0
    assert cli("message", "get", "orders", "0", "0", "--body", "-").out == "first"
    assert cli("message", "get", "orders", "0", "0", "--body", str(tmp_path / "body")).out == ""
    assert (tmp_path / "body").read_bytes() == b"first"


def test_a_trace_is_told_by_its_id_with_what_was_not_searched(cli: Cli, server: Server) -> None:
    cli("produce", "orders", "first", "--key", "4711")
    traces = server.services.traces
    traces.kept, traces.verdict, traces.before, traces.unreadable = True, Verdict.RATIO, 500, 2
    traces.place_in = ("orders", 0)
    place = ("--topic", "orders", "--partition", "0", "--offset", "0")
    trace_id = json.loads(cli("trace", *place, "--json").out)["traceId"]
    at = 1_795_262_400_000_000_000
    span = TraceRecord(1, "deliver", "00000000000000b7", "memory-0-0", 0, "orders", 0, at, at, "", 0, 0, -1)
    traces.records[int(trace_id, 16)] = [span]
    for arguments in (("--id", trace_id), place):
        told = cli("trace", *arguments)
        assert told.code == 0
        assert told.out.startswith("orders, partition 0, offset 0\n")
        assert "2026-11-21T12:00:00.000Z  delivered  a client without an id" in told.out
        assert "It was followed." in told.err
        assert "2 events of it cannot be read" in told.err
        assert "--before 500" in told.err
    older = cli("trace", "--id", trace_id, "--before", "500")
    assert "delivered" not in older.out
    server.services.topics.topics.pop("orders")
    gone = cli("trace", "--id", trace_id)
    assert (gone.code, gone.out.splitlines()[0]) == (0, f"trace {trace_id}")
    assert "orders, partition 0, offset 0: " in gone.out
    assert "not in the log" in gone.err
    nothing = cli("trace", "--id", "f" * 32)
    assert (nothing.code, nothing.out) == (1, "")
    assert "Nothing is known" in nothing.err


def test_a_message_that_is_not_there_is_exit_1(cli: Cli, server: Server, tmp_path: Path) -> None:
    cli("produce", "orders", "first", "--key", "4711")
    topic = server.services.topics.topics["orders"].partitions[0]
    topic.append(build_batch([Record(key=b"4711", value=None), Record(key=b"e", value=b"")]))
    missing = cli(*FIND, "--key", "nope")
    assert (missing.code, missing.out) == (1, "")
    assert "No message of that key was found in orders: 1 of 1 partitions, 3 messages" in missing.err
    assert cli("trace", "--topic", "orders", "--key", "nope").code == 1
    assert "not written yet" in cli("message", "get", "orders", "0", "9").err
    tombstone = cli("message", "get", "orders", "0", "1", "--body", "-")
    assert (tombstone.code, tombstone.out) == (1, "")
    assert "is null" in tombstone.err
    assert cli("message", "get", "orders", "0", "2", "--body", "-").code == 0
    unwritable = cli("message", "get", "orders", "0", "0", "--body", str(tmp_path / "no" / "body"))
    assert (unwritable.code, "cannot be written" in unwritable.err) == (1, True)


def test_a_long_search_says_how_far_it_is(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        cli("produce", "orders", "first", "--key", "4711")
    server.services.messages.batches_per_request = 1
    monkeypatch.setattr(searching, "PROGRESS_SECONDS", 0.0)
    result = cli(*FIND, "--key", "4711")
    assert result.err.splitlines() == [
        "searched 0 of 1 partitions, 1 messages, 16 B; 1 found",
        "searched 0 of 1 partitions, 2 messages, 32 B; 2 found",
    ]


def test_groups_from_declaration_to_deletion(cli: Cli) -> None:
    cli("topic", "create", "payments")
    cli("produce", "payments", "a", "b")
    declared = cli("group", "declare", "billing", "--topic", "payments", "--start", "earliest")
    assert declared.out == "group billing declared for payments\n"
    assert cli("group", "list").out.splitlines() == [
        "NAME     MODE    STATE  MEMBERS  LAG",
        "billing  stream  Empty        0    2",
    ]
    assert "payments          0          0    2    2" in cli("group", "describe", "billing").out
    dry = cli("group", "reset", "billing", "--to", "latest", "--dry-run")
    assert dry.out.splitlines()[1].split() == ["payments", "0", "0", "2"]
    assert json.loads(cli("group", "describe", "billing", "--json").out)["lag"] == 2
    assert cli("group", "reset", "billing", "--to", "1").code == 0
    assert json.loads(cli("group", "describe", "billing", "--json").out)["lag"] == 1
    assert cli("group", "delete", "billing").out == "group billing deleted\n"
    assert cli("group", "describe", "billing").code == 1


def test_settings_and_cluster(cli: Cli) -> None:
    assert "log.retention.ms" in cli("config", "list").out
    assert cli("config", "list", "--changed").err == "Every setting is at its default.\n"
    changed = cli("config", "set", "log.retention.ms=5")
    assert changed.out.splitlines()[1].split() == ["log.retention.ms", "5", "dynamic"]
    static = cli("config", "set", "shard.id=5")
    assert (static.code, "set it in the configuration file" in static.err) == (1, True)
    assert cli("config", "set", "--reset", "log.retention.ms").out.split()[-1] == "default"
    assert "memory-0-0" in cli("cluster").out
    assert json.loads(cli("cluster", "--json").out)["broker"]["disk"]["state"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("consume", "t", "--from", "7"), "only with --partition"),
        (("consume", "t", "--from", "yesterday"), "2026-11-21T08:00:00Z"),
        (("consume", "t", "--from", "2026-11-21T08:00:00"), "without a zone"),
        (("produce", "t", "m", "--header", "x"), "NAME=VALUE"),
        (("topic", "alter", "t"), "nothing to change"),
        (("topic", "create", "t", "--config", "x"), "NAME=VALUE"),
        (("group", "reset", "g", "--to", "never"), "--to"),
        (("config", "set"), "nothing to change"),
        (("message", "get", "t", "x", "0"), "PARTITION"),
        (("message", "get", "t", "0", "0x1"), "OFFSET"),
        (("message", "get", "t", "0", "0", "--preview", "65537"), "--preview"),
        (FIND, "give --key"),
        ((*FIND, "--key", "a", "--key-base64", "YQ=="), "give --key"),
        ((*FIND, "--key", "a", "--since", "soon"), "nor how long ago"),
        ((*FIND, "--key", "a", "--limit", "0"), "--limit"),
        (("trace",), "give --id, or --topic"),
        (("trace", "--topic", "t"), "give --id, or --topic"),
        (("trace", "--topic", "t", "--offset", "1"), "give --id, or --topic"),
        (("trace", "--topic", "t", "--key", "k", "--offset", "1"), "give --id, or --topic"),
        (("trace", "--id", "0" * 32, "--topic", "t"), "give --id, or --topic"),
        (("trace", "--key", "k"), "give --id, or --topic"),
        (("trace", "--id", "4711"), "32 hexadecimal digits"),
        (("topic", "list", "--admin", "ftp://x"), "http://127.0.0.1:8080"),
        (("broker",), "--data"),
        (("nothing",), "No such command"),
    ],
)
def test_wrong_usage_is_exit_2_and_a_sentence(cli: Cli, arguments: tuple[str, ...], part: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert part in result.err


def test_wrong_configuration_is_exit_2(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text("log.retentoin.ms: 5\n")
    result = cli("broker", "--data", str(tmp_path / "data"), "--config", str(file))
    assert result.code == 2
    assert "log.retentoin.ms" in result.err


def test_an_unreachable_server_says_which_and_what_to_start(cli: Cli) -> None:
    result = cli("topic", "list", "--admin", "127.0.0.1:1")
    assert result.code == 1
    assert "nothing answers at http://127.0.0.1:1 (connection refused)" in result.err
    assert "penstock broker --data DIR" in result.err


# A test run in the background of a shell has SIGINT ignored, and its children would inherit that.
AS_AT_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("penstock.main", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("command", [("consume", "greetings", "--follow"), ("produce", "greetings")])
def test_control_c_is_quiet(cli: Cli, server: Server, command: tuple[str, ...]) -> None:
    cli("produce", "greetings", "here")
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", AS_AT_A_TERMINAL, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if command[0] == "consume":
        assert process.stdout.readline() == "here\n"
    else:
        process.stdin.write("there\n")
        process.stdin.flush()
        partition = server.services.topics.topics["greetings"].partitions[0]
        deadline = time.monotonic() + 30
        while partition.high_watermark < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_following_outlasts_a_broker_that_is_away(
    cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("produce", "greetings", "one")
    monkeypatch.setattr(consume_module, "FOLLOW_RETRY_SECONDS", 0)
    server.services.data.unavailable = 2
    out = cli("consume", "greetings", "--follow", "--limit", "1", "--partition", "0", "--from", "0")
    assert (out.code, out.out) == (0, "one\n")
    assert out.err.count("trying again") == 1
    server.services.data.unavailable = 1
    assert cli("consume", "greetings", "--partition", "0", "--from", "0").code == 1


def test_another_server_is_recognised(cli: Cli, server: Server) -> None:
    # The data API under the admin's name: what is missing there is said as a problem document.
    result = cli("cluster", "--admin", server.data_url)
    assert (result.code, "There is nothing at /v1/cluster" in result.err) == (1, True)


def test_broker_settings_are_listed(cli: Cli) -> None:
    assert "log.retention.ms" in cli("broker-config").out
    table = json.loads(cli("broker-config", "--json").out)["config"]
    assert {"name", "default", "dynamic", "doc", "type"} == set(table[0])


def test_control_characters_of_a_message_do_not_reach_the_terminal(cli: Cli) -> None:
    cli("produce", "greetings", "\x1b[2Jred\u009b")
    assert cli("consume", "greetings").out == "\\x1b[2Jred\\x9b\n"
    assert printable("a\tb\nc\r") == "a\tb\nc\\x0d"


def test_sizes_read_well() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 1536, 1 << 40, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "1.0 TiB",
        "1024.0 TiB",
    ]
