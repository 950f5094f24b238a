"""A ConsumerGroup of mode queue on a real broker: `penstock up` declares it, its edits reach it, and leased messages show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from harness import eventually
from up_process import Up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLUSTER = """
apiVersion: penstock.io/v1alpha1
kind: MessageCluster
metadata: {{name: local}}
spec: {{mode: Raft, listeners: [{{name: internal, port: {kafka}}}], http: {{port: {http}}}, config: {config}}}
---
apiVersion: penstock.io/v1alpha1
kind: Topic
metadata: {{name: orders}}
spec: {{clusterRef: {{name: local}}, partitions: {partitions}}}
---
apiVersion: penstock.io/v1alpha1
kind: ConsumerGroup
metadata: {{name: mails}}
spec: {{clusterRef: {{name: local}}, topics: [orders], start: {{at: earliest}}, %s}}
"""
QUEUE = "mode: queue, lease: {{duration: 1m, maxInFlight: 5}}, retry: {{maxDeliveries: 3, backoff: {{initial: 100ms}}}}"


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    made = Up(tmp_path, CLUSTER % QUEUE)
    made.write(partitions=1)
    try:
        await made.start()
        yield made
    finally:
        if made.process is not None and made.process.returncode is None:
            await made.stop()


async def post(up: Up, path: str, body: dict[str, Any]) -> Any:
    """What the data API answers."""
    url = f"http://127.0.0.1:{up.ports['http']}{path}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_queue_group_from_its_resource_to_a_dead_letter(up: Up) -> None:
    shown = (await up.admin("/v1/groups/mails"))["queue"]
    settings = {name: shown[name] for name in ("deadLetterTopic", "leaseMs", "maxInFlight", "maxDeliveries")}
    assert settings == {
        "deadLetterTopic": "mails.dlq",
        "leaseMs": 60_000,
        "maxInFlight": 5,
        "maxDeliveries": 3,
    }

    await post(up, "/v1/topics/orders/messages", {"messages": [{"value": "lamp"}, {"value": "rope"}]})
    lamp, rope = (await post(up, "/v1/groups/mails/lease", {"max": 10}))["messages"]
    assert (lamp["value"], rope["value"], lamp["deliveries"]) == ("lamp", "rope", 1)
    assert (await up.admin("/v1/groups/mails"))["queue"]["inFlight"] == 2

    # An edit is followed while messages are held, and what leaves the spec is back to its default.
    up.template = CLUSTER % "mode: queue, lease: {{duration: 1m}}, deadLetter: {{topicName: failed}}"
    up.write(partitions=1)

    async def edited() -> bool:
        queue = (await up.admin("/v1/groups/mails"))["queue"]
        return (queue["deadLetterTopic"], queue["maxDeliveries"]) == ("failed", 16)

    await eventually(edited, "the edit")
    assert (await post(up, "/v1/groups/mails/acknowledge", {"receipts": [lamp["receipt"]]}))["results"]
    await post(up, "/v1/groups/mails/reject", {"receipts": [rope["receipt"]], "retry": False})

    async def given_up() -> bool:
        queue = (await up.admin("/v1/groups/mails"))["queue"]
        topics = [topic["name"] for topic in (await up.admin("/v1/topics"))["topics"]]
        return (queue["inFlight"], queue["deadLetters"]) == (0, 1) and "failed" in topics

    await eventually(given_up, "the dead letter")

    # The mode stays: the file's edit is refused as an API server would.
    up.template = CLUSTER % "mode: stream"
    up.write(partitions=1)
    await up.until_said("mode cannot be changed: make a new ConsumerGroup with the other mode")
