"""docs/metrics.md says what brokers expose, all of it and nothing else.

With PENSTOCK_WRITE_DOCS=1 the table is written anew instead of compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.config.broker_config import load_config
from penstock.process.assembly import Broker
from penstock.telemetry.families import FAMILIES, SECTIONS, Family

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table() -> str:
    """As the page has it."""
    lines = []
    for title, families in SECTIONS.items():
        lines += [f"### {title}", "", "| metric | kind | labels | says |", "| --- | --- | --- | --- |"]
        lines += [_row(family) for family in families]
        lines.append("")
    return "\n".join(lines)


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.exposed_name}` | {family.kind} | {labels} | {family.text} |"


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the tables' rows that begin with a name in backquotes."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_page_has_the_table_that_the_code_has() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    found, _, after = rest.partition(END)
    if os.environ.get("PENSTOCK_WRITE_DOCS"):
        PAGE.write_text(before + BEGIN + table() + END + after)
        found = table()
    assert found == table(), "docs/metrics.md is old: write it anew with PENSTOCK_WRITE_DOCS=1 and this test"


def test_names_and_texts_keep_the_habits() -> None:
    names = [family.exposed_name for family in FAMILIES]
    assert len({*names}) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"penstock(_[a-z]+)+", family.name), family.name
        assert family.text.endswith("."), family.name
        assert not family.name.endswith("_total"), family.name


@pytest.fixture
async def scraped(tmp_path: Path) -> str:
    """A scrape of a broker that has served every protocol, with a topic and a group."""

    def fail(error: BaseException) -> None:
        raise AssertionError("the broker's log failed") from error

    listen = [f"{name}=127.0.0.1:0" for name in ("kafka", "http", "admin")]
    broker = Broker(load_config(tmp_path, listen=listen), fail)
    await broker.start()
    data, admin = (f"http://{broker.listener_addresses[name]}" for name in ("http", "admin"))
    async with aiohttp.ClientSession() as session:
        messages = {"messages": [{"value": "a"}]}
        asked = [
            ("POST", f"{data}/v1/topics/orders/messages", messages, 200),
            (
                "PUT",
                f"{admin}/v1/groups/billing",
                {"mode": "stream", "topics": ["orders"], "start": {"at": "earliest"}},
                201,
            ),
            ("PUT", f"{admin}/v1/groups/mails", {"mode": "queue", "topics": ["orders"]}, 201),
        ]
        for method, url, body, status in asked:
            async with session.request(method, url, json=body) as answer:
                assert answer.status == status, await answer.text()
        async with session.get(f"{admin}/metrics") as answer:
            text = await answer.text()
    await broker.stop()
    return text


async def test_a_broker_exposes_what_the_page_says_and_nothing_else(scraped: str) -> None:
    page = PAGE.read_text()
    documented = {row[0].strip("`"): row[1:] for row in rows(page.partition(BEGIN)[2].partition(END)[0])}
    exposed = {}
    for family in text_string_to_metric_families(scraped):
        exposed[family.name + ("_total" if family.type == "counter" else "")] = family
    assert {*exposed} == {*documented}
    for name, family in exposed.items():
        kind, labels, says = documented[name]
        # Prometheus' text format has no kind of its own for an info.
        assert (family.type, family.documentation) == ("gauge" if kind == "info" else kind, says)
        for sample in family.samples:
            given = sorted(label for label in sample.labels if label != "le")
            assert given == sorted(label.strip("`") for label in labels.split(", ") if label), sample


async def test_every_metric_of_a_leader_with_a_topic_and_a_group_has_a_value(scraped: str) -> None:
    """But for what a broker that is alone cannot have: followers; and what did not happen."""
    empty = {family.name for family in text_string_to_metric_families(scraped) if not family.samples}
    assert empty == {"penstock_member_lag_entries", "penstock_member_lag_bytes", "penstock_produce_refused"}


async def test_the_page_names_every_queue(scraped: str) -> None:
    named = {row[0].strip("`") for row in rows(PAGE.read_text().partition("## Queues")[2])}
    shown = {
        sample.labels["queue"]
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if "queue" in sample.labels
    }
    assert shown == named
