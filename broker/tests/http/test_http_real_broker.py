"""Both APIs over a whole broker: what the services in memory promise must hold for the real ones, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from penstock.config.broker_config import load_config
from penstock.process.assembly import Broker

if TYPE_CHECKING:
    from pathlib import Path


def fail(error: BaseException) -> None:
    raise AssertionError("the broker's log failed") from error


class Apis:
    """Requests to the two listeners of one broker; each gives status and document."""

    def __init__(self, session: aiohttp.ClientSession, addresses: dict[str, str]) -> None:
        self._session = session
        self._addresses = addresses

    async def __call__(self, listener: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        url = f"http://{self._addresses[listener]}{path}"
        async with self._session.request(method, url, json=body) as answer:
            return answer.status, await answer.json(content_type=None) if answer.content_length else None

    async def metrics(self) -> dict[str, float]:
        async with self._session.get(f"http://{self._addresses['admin']}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        return {
            sample.name: sample.value for family in families for sample in family.samples if not sample.labels
        }


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[Apis]:
    listen = [f"{name}=127.0.0.1:0" for name in ("http", "admin")]
    running = Broker(load_config(folder, listen=listen), fail)
    await running.start()
    async with aiohttp.ClientSession() as session:
        yield Apis(session, running.listener_addresses)
    await running.stop()


async def test_messages_survive_a_restart(tmp_path: Path) -> None:
    messages = [{"key": "k", "value": {"json": {"n": n}}, "headers": {"h": "x"}} for n in range(2500)]
    async with broker(tmp_path) as api:
        assert (await api("admin", "GET", "/readyz"))[0] == 200
        assert (await api("admin", "POST", "/v1/topics", {"name": "orders", "partitions": 3}))[0] == 201
        status, answer = await api("http", "POST", "/v1/topics/orders/messages", {"messages": messages})
        assert (status, [entry["offset"] for entry in answer["offsets"]]) == (200, list(range(2500)))
        assert (await api.metrics())["penstock_messages_in_total"] == 2500
    async with broker(tmp_path) as api:
        partition = answer["offsets"][0]["partition"]
        where = f"/v1/topics/orders/partitions/{partition}/messages?offset=2400&format=json"
        _, page = await api("http", "GET", where)
        assert [message["value"]["json"]["n"] for message in page["messages"]] == list(range(2400, 2500))
        assert (page["nextOffset"], page["highWatermark"], page["logStart"]) == (2500, 2500, 0)
        status, problem = await api("http", "GET", where.replace("2400", "2501"))
        assert (status, problem["highWatermark"]) == (416, 2500)
        seen, where = 0, "/v1/topics/orders/messages?limit=1000"
        while True:
            _, page = await api("http", "GET", where)
            seen += len(page["messages"])
            if page["atEnd"]:
                break
            where = f"/v1/topics/orders/messages?limit=1000&next={page['next']}"
        assert seen == 2500


async def test_many_first_messages_make_one_topic(tmp_path: Path) -> None:
    async with broker(tmp_path) as api:
        produced = await asyncio.gather(
            *(
                api("http", "POST", "/v1/topics/new/messages", {"messages": [{"value": "a"}]})
                for _ in range(30)
            )
        )
        assert [status for status, _ in produced] == [200] * 30
        assert sorted(answer["offsets"][0]["offset"] for _, answer in produced) == list(range(30))
        _, topics = await api("admin", "GET", "/v1/topics")
        assert [(topic["name"], topic["messages"]) for topic in topics["topics"]] == [("new", 30)]


async def test_a_long_poll_meets_a_later_message(tmp_path: Path) -> None:
    async with broker(tmp_path) as api:
        await api("admin", "POST", "/v1/topics", {"name": "orders", "partitions": 2})
        waiting = [
            asyncio.create_task(api("http", "GET", "/v1/topics/orders/partitions/1/messages?waitMs=20000")),
            asyncio.create_task(api("http", "GET", "/v1/topics/orders/messages?from=latest&waitMs=20000")),
        ]
        body = {"messages": [{"value": "late", "partition": 1}]}
        assert (await api("http", "POST", "/v1/topics/orders/messages", body))[0] == 200
        for status, page in await asyncio.wait_for(asyncio.gather(*waiting), 15):
            assert status == 200
            # The merged read may have begun behind the message; then it says so instead of hanging.
            assert [message["value"] for message in page["messages"]] == ["late"] or page["atEnd"]


async def test_topics_and_settings_are_administered(tmp_path: Path) -> None:
    async with broker(tmp_path) as api:
        wanted = {"name": "orders", "config": {"retention.ms": 5000}}
        status, topic = await api("admin", "POST", "/v1/topics", wanted)
        assert (status, topic["config"]) == (201, {"retention.ms": "5000"})
        assert (await api("admin", "POST", "/v1/topics", wanted))[0] == 409
        status, problem = await api(
            "admin", "PATCH", "/v1/topics/orders", {"partitions": 4, "config": {"nonsense": 1}}
        )
        assert (status, problem["code"]) == (400, "INVALID_CONFIG")
        assert (await api("admin", "GET", "/v1/topics/orders"))[1]["partitions"] == 1
        change = {"partitions": 4, "config": {"retention.ms": None}}
        _, topic = await api("admin", "PATCH", "/v1/topics/orders", change)
        assert (topic["partitions"], topic["config"]) == (4, {})
        status, problem = await api("admin", "PATCH", "/v1/config", {"log.segment.bytes": 1048576})
        assert (status, problem["code"]) == (400, "INVALID_CONFIG")
        assert "needs a restart: set it in the configuration file" in problem["detail"]
        _, table = await api("admin", "PATCH", "/v1/config", {"num.partitions": 7})
        [option] = [each for each in table["config"] if each["name"] == "num.partitions"]
        assert (option["value"], option["default"], option["source"]) == ("7", "1", "dynamic")
        _, table = await api("admin", "PATCH", "/v1/config", {"num.partitions": None})
        [option] = [each for each in table["config"] if each["name"] == "num.partitions"]
        assert (option["value"], option["source"]) == ("1", "default")
        assert await api("admin", "DELETE", "/v1/topics/orders") == (204, None)
        assert (await api("admin", "DELETE", "/v1/topics/orders"))[0] == 404


async def test_groups_are_administered(tmp_path: Path) -> None:
    declaration = {"mode": "stream", "topics": ["orders"], "start": {"at": "latest"}}
    async with broker(tmp_path) as api:
        assert (await api("admin", "PUT", "/v1/groups/billing", declaration))[0] == 404
        # Timestamps of 1970 would be deleted by retention at its first look.
        await api("admin", "POST", "/v1/topics", {"name": "orders", "config": {"retention.ms": -1}})
        messages = [{"value": "a", "timestamp": 1000 * number} for number in range(5)]
        await api("http", "POST", "/v1/topics/orders/messages", {"messages": messages})
        assert (await api("admin", "PUT", "/v1/groups/billing", declaration))[0] == 201
        status, group = await api("admin", "PUT", "/v1/groups/billing", declaration)
        assert (status, group["lag"], group["declared"], group["state"]) == (200, 0, True, "Empty")
        assert (await api("admin", "PUT", "/v1/groups/billing", {**declaration, "mode": "queue"}))[0] == 409
        reset = {"to": {"timestamp": "1970-01-01T00:00:02Z"}, "dryRun": True}
        _, moved = await api("admin", "POST", "/v1/groups/billing/reset", reset)
        assert moved == {"offsets": [{"topic": "orders", "partition": 0, "from": 5, "to": 2}]}
        assert (await api("admin", "GET", "/v1/groups/billing"))[1]["lag"] == 0
        await api("admin", "POST", "/v1/groups/billing/reset", {**reset, "dryRun": False})
    async with broker(tmp_path) as api:
        _, group = await api("admin", "GET", "/v1/groups/billing")
        assert (group["lag"], group["offsets"][0]["offset"], group["topics"]) == (3, 2, ["orders"])
        assert (await api("admin", "GET", "/v1/groups"))[1]["groups"][0]["lag"] == 3
        assert await api("admin", "DELETE", "/v1/groups/billing") == (204, None)
        assert (await api("admin", "GET", "/v1/groups/billing"))[0] == 404
