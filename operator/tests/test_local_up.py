"""`penstock up` as a user runs it: real files, a real broker process, signals."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import eventually
from up_process import Up, is_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLUSTER = """
apiVersion: penstock.io/v1alpha1
kind: MessageCluster
metadata: {{name: local}}
spec: {{mode: Raft, listeners: [{{name: internal, port: {kafka}}}], http: {{port: {http}}}, config: {config}}}
---
apiVersion: penstock.io/v1alpha1
kind: Topic
metadata: {{name: payments}}
spec: {{clusterRef: {{name: local}}, partitions: {partitions}}}
---
apiVersion: penstock.io/v1alpha1
kind: ConsumerGroup
metadata: {{name: billing}}
spec: {{clusterRef: {{name: local}}, topics: [payments]}}
"""


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    made = Up(tmp_path, CLUSTER)
    made.write()
    try:
        await made.start()
        yield made
    finally:
        if made.process is not None and made.process.returncode is None:
            await made.stop()


async def test_from_start_to_stop(up: Up) -> None:
    status = up.status()
    assert status["bootstrap"] == f"127.0.0.1:{up.ports['kafka']}"
    assert status["http"] == f"127.0.0.1:{up.ports['http']}"
    first = up.pid()

    # A broker that dies is started again and keeps what it had.
    os.kill(first, signal.SIGKILL)

    async def other() -> bool:
        return up.pid() not in (0, first) and bool(up.status()["admin"])

    await eventually(other, "another broker")
    assert [found["name"] for found in (await up.admin("/v1/topics"))["topics"]] == ["payments"]

    # An edit of the file is followed: more partitions and a dynamic setting, without a restart.
    second = up.pid()
    up.write(partitions=4, config="{log.retention.ms: 1234567}")

    async def edited() -> bool:
        topic = await up.admin("/v1/topics/payments")
        table = {row["name"]: row["value"] for row in (await up.admin("/v1/config"))["config"]}
        return topic["partitions"] == 4 and table["log.retention.ms"] == "1234567"

    await eventually(edited, "the edit")
    assert up.pid() == second

    # A static setting restarts the broker.
    up.write(partitions=4, config="{log.retention.ms: 1234567, max.connections: 100}")
    await up.until_said("max.connections cannot change while it runs")

    async def third() -> bool:
        return up.pid() not in (0, first, second) and bool(up.status()["admin"])

    await eventually(third, "a broker with the new setting")
    table = {row["name"]: row["value"] for row in (await up.admin("/v1/config"))["config"]}
    assert table["max.connections"] == "100"

    # A bad edit changes nothing and is said.
    up.write(partitions=1)
    await up.until_said("not taken over: Topic payments: spec: partitions cannot become fewer")
    assert (await up.admin("/v1/topics/payments"))["partitions"] == 4

    pid = up.pid()
    assert await up.stop() == 0
    assert not is_alive(pid)
    assert not up.status_file.exists()


async def test_a_taken_port_is_replaced_and_said(tmp_path: Path) -> None:
    made = Up(tmp_path, CLUSTER)
    made.write()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.ports["kafka"]))
        taken.listen()
        try:
            await made.start()
            assert made.status()["bootstrap"] != f"127.0.0.1:{made.ports['kafka']}"
            assert f"port {made.ports['kafka']} of listener internal is taken" in made.log.read_text()
        finally:
            assert await made.stop() == 0


async def test_a_mended_configuration_is_tried_at_once(tmp_path: Path) -> None:
    made = Up(tmp_path, CLUSTER)
    made.write(config="{no.such.setting: 1}")
    try:
        await made.start("starts again in 1.6 s")
        assert "its configuration is wrong" in made.log.read_text()
        assert "no.such.setting" in made.log.read_text()
        made.write()

        async def ready() -> bool:
            return made.ready_file.exists()

        await eventually(ready, "everything is ready")
    finally:
        assert await made.stop() == 0


async def test_brokers_do_not_outlive_a_killed_parent(up: Up) -> None:
    pid = up.pid()
    assert up.process is not None
    up.process.kill()
    await up.process.wait()

    async def gone() -> bool:
        return not is_alive(pid)

    await eventually(gone, "the broker is gone")
