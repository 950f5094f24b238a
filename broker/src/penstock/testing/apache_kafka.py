"""Apache Kafka and its tools, run from the jars that `tools/kafka-jars` fetches.

Our tests use the tools as foreign clients; the bench runs the broker as the one to compare with; and while a test is
being written, Apache Kafka is the peer that proves the test itself. Started as one node that is broker and controller
(KRaft), with replication factors of 1, on loopback.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Self

from penstock.testing.managed_process import ManagedProcess, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KAFKA_VERSION = "4.3.1"
READY_TIMEOUT_S = 60.0
FORMAT_TIMEOUT_S = 60.0
# What Kafka's own start script gives its broker.
HEAP_OPTIONS = ("-Xmx1g", "-Xms1g")
JVM_OPTIONS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
# Short-lived tools start faster without the second compiler.
TOOL_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m")


class KafkaMissingError(Exception):
    """Java or the jars are not there; the text says what to run."""


def kafka_jars() -> Path:
    """The folder of Kafka's jars. Raises KafkaMissingError with the command that fetches them."""
    home = os.environ.get("PENSTOCK_KAFKA_HOME")
    folder = Path(home) if home else Path.home() / ".cache" / "penstock" / f"kafka-{KAFKA_VERSION}"
    if shutil.which("java") is None:
        raise KafkaMissingError("Java is missing: install a JDK 17 (Debian: openjdk-17-jdk-headless)")
    if not (folder / "complete").exists():
        raise KafkaMissingError(f"Kafka's jars are not in {folder}: run tools/kafka-jars")
    return folder / "lib"


def java_command(main_class: str, *arguments: str, options: Sequence[str] = TOOL_OPTIONS) -> list[str]:
    """The command that runs a class of the jars. Raises KafkaMissingError."""
    return ["java", *options, "-cp", f"{kafka_jars()}/*", main_class, *arguments]


class ApacheKafka(ManagedProcess):
    """One Apache Kafka node below `folder`; `.kafka` is its bootstrap address."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, object] | None = None,
        prefix: Sequence[str] = (),
        heap: Sequence[str] = HEAP_OPTIONS,
        cluster_id: str = "",
        ports: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(folder / "kafka.log")
        self.folder = folder
        self.data = folder / "data"
        self.ready_after_s: float | None = None
        self._began = 0.0
        self._config = dict(config or {})
        self._prefix = list(prefix)
        self._heap = list(heap)
        self._cluster_id = cluster_id or new_kafka_id()
        self._port, self._controller_port = ports or free_ports()

    @property
    def kafka(self) -> str:
        """HOST:PORT to bootstrap from."""
        return f"127.0.0.1:{self._port}"

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> ApacheKafka:
        """Formats the data folder on the first start, then starts and waits until a request for versions is answered."""
        self.begin()
        return self.wait_serving(timeout_s)

    def begin(self) -> None:
        """The same without the waiting: nodes of one cluster wait for each other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        if not (self.data / "meta.properties").exists():
            self._format(properties)
        self._began = time.monotonic()
        command = java_command("kafka.Kafka", str(properties), options=[*self._heap, *JVM_OPTIONS])
        self.launch([*self._prefix, *command])

    def wait_serving(self, timeout_s: float = READY_TIMEOUT_S) -> ApacheKafka:
        """Waits until a node that was begun answers a request for versions."""
        self.wait_until(self._answers, timeout_s, "an answer on its port")
        self.ready_after_s = time.monotonic() - self._began
        return self

    def restart(self, timeout_s: float = READY_TIMEOUT_S) -> ApacheKafka:
        """Starts again on the same ports and data; one that still runs is stopped with SIGTERM first."""
        if self.running:
            self.terminate()
        return self.start(timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _properties(self) -> dict[str, object]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.kafka},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.kafka}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 500,
            **self._config,
        }

    def _format(self, properties: Path) -> None:
        arguments = ["format", "-t", self._cluster_id, "-c", str(properties)]
        if "controller.quorum.voters" not in self._config:
            arguments.append("--standalone")
        command = java_command("kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise ServerError(
                f"kafka.tools.StorageTool ended with {done.returncode}:\n{done.stderr}{done.stdout}"
            )

    def _answers(self) -> bool:
        """True when a request for versions gets an answer: the port opens before the broker is unfenced."""
        request = bytes.fromhex("0012 0000 00000001 ffff")  # ApiVersions v0, correlation 1, no client id
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                connection.sendall(len(request).to_bytes(4, "big") + request)
                return len(connection.recv(4)) == 4
        except OSError:
            return False


def new_kafka_id() -> str:
    """A cluster id as Kafka makes its own."""
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def free_ports() -> tuple[int, int]:
    """Two ports that are free now. Another process may take them before Kafka does: then its start fails, with its log."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
