"""`penstock up` with `spec.tracing`: spans of a real broker arrive, and an edit that takes the collector away is followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from harness import eventually
from otlp_receiver import otlp_receiver
from up_process import Up

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = """
apiVersion: penstock.io/v1alpha1
kind: MessageCluster
metadata: {{name: local}}
spec:
  mode: Raft
  listeners: [{{name: internal, port: {kafka}}}]
  http: {{port: {http}}}
  TRACING
---
apiVersion: penstock.io/v1alpha1
kind: Topic
metadata: {{name: payments}}
spec: {{clusterRef: {{name: local}}}}
"""


async def test_a_local_broker_sends_its_spans_until_the_file_says_otherwise(tmp_path: Path) -> None:
    async with otlp_receiver() as receiver:
        traced = f"tracing: {{{{endpoint: '{receiver.url}', sampling: 1}}}}"
        up = Up(tmp_path, CLUSTER.replace("TRACING", traced))
        up.write()
        try:
            await up.start()
            url = f"http://{up.status()['http']}/v1/topics/payments/messages"
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json={"messages": [{"value": "order 4711"}]}) as answer,
            ):
                assert answer.status == 200, await answer.text()

            async def sent() -> Any:
                return receiver.spans

            (span, *_) = await eventually(sent, "spans")
            told = (span.resource["service.name"], span.resource["service.instance.id"])
            assert told == ("penstock-broker", "local-0-0")
            up.template = CLUSTER.replace("TRACING", "")
            up.write()
            await up.until_said("tracing.endpoint cannot change while it runs")

            async def off() -> bool:
                try:
                    rows = (await up.admin("/v1/config"))["config"]
                except aiohttp.ClientError:
                    return False  # it is being restarted
                return {row["name"]: row["value"] for row in rows}["tracing.endpoint"] == ""

            await eventually(off, "a broker that traces nothing")
        finally:
            if up.process is not None and up.process.returncode is None:
                await up.stop()
