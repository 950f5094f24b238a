"""Collectors in the cluster: the tests' own small receiver, and OpenTelemetry's Collector as docs/tracing.md installs it.

Both take OTLP over HTTP at the Service `collector`, and hand out what came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from client_pod import client_pod
from kube import ON_FIRST_NODE
from otlp_json import spans_of
from penstock.testing.otlp_receiver import ReceivedSpan

if TYPE_CHECKING:
    from kube import Kube

NAME = "collector"
OTLP_PORT = 4318
READY_SECONDS_MAX = 60
GUIDE = Path(__file__).resolve().parent.parent / "docs" / "tracing.md"
SPANS_FOLDER, SPANS_FILE = "/spans", "/spans/spans.json"


@dataclass(frozen=True)
class Receiver:
    """The tests' own receiver, in a pod of the client image."""

    kube: Kube

    @property
    def endpoint(self) -> str:
        """Where spans go, from every namespace."""
        return endpoint(self.kube)

    def spans(self) -> list[ReceivedSpan]:
        """Everything that came."""
        path = f"/api/v1/namespaces/{self.kube.namespace}/pods/{NAME}:{OTLP_PORT}/proxy/spans"
        return msgspec.json.decode(self.kube.run("get", "--raw", path), type=list[ReceivedSpan])


def start_receiver(kube: Kube, image: str) -> Receiver:
    """Starts it and waits until it listens."""
    arguments = ["--host", "0.0.0.0", "--port", str(OTLP_PORT)]
    listens = {"httpGet": {"path": "/spans", "port": OTLP_PORT}, "periodSeconds": 1}
    kube.apply(
        client_pod(NAME, image, "pod_receiver.py", arguments, label=NAME, readinessProbe=listens),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": OTLP_PORT}]},
        },
    )
    kube.run("wait", "--for=condition=Ready", f"pod/{NAME}", f"--timeout={READY_SECONDS_MAX}s")
    return Receiver(kube)


@dataclass(frozen=True)
class OpenTelemetryCollector:
    """OpenTelemetry's Collector, of the manifest that the guide has."""

    kube: Kube

    @property
    def endpoint(self) -> str:
        """Where spans go, from every namespace."""
        return endpoint(self.kube)

    def spans(self) -> list[ReceivedSpan]:
        """Everything that it wrote into its file."""
        return spans_of(self.kube.run("exec", f"deployment/{NAME}", "--", "cat", SPANS_FILE))

    def log(self) -> str:
        """What it says to people, span by span."""
        return self.kube.run("logs", f"deployment/{NAME}")


def start_collector(kube: Kube, image: str) -> OpenTelemetryCollector:
    """Applies the guide's manifest, with another image and one exporter more, and waits until it is there."""
    kube.apply(*for_tests(manifests_of_guide(), image))
    kube.run("rollout", "status", f"deployment/{NAME}", f"--timeout={READY_SECONDS_MAX}s")
    return OpenTelemetryCollector(kube)


def manifests_of_guide() -> list[dict[str, Any]]:
    """The ConfigMap, the Deployment and the Service of docs/tracing.md."""
    blocks: list[str] = re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if "kind: Deployment" in block]
    return list(yaml.safe_load_all(block))


def for_tests(manifests: list[dict[str, Any]], image: str) -> list[dict[str, Any]]:
    """The same with this image, on the first node, and with the spans in a file as well."""
    found = {manifest["kind"]: manifest for manifest in manifests}
    ((file, text),) = found["ConfigMap"]["data"].items()
    config = yaml.safe_load(text)
    config["exporters"]["file"] = {"path": SPANS_FILE}
    config["service"]["pipelines"]["traces"]["exporters"].append("file")
    found["ConfigMap"]["data"] = {file: yaml.safe_dump(config)}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container |= {"image": image, "imagePullPolicy": "IfNotPresent"}
    container["volumeMounts"].append({"name": "spans", "mountPath": SPANS_FOLDER})
    pod["volumes"].append({"name": "spans", "emptyDir": {}})
    pod |= ON_FIRST_NODE
    return manifests


def endpoint(kube: Kube) -> str:
    """Of the Service, from every namespace."""
    return f"http://{NAME}.{kube.namespace}:{OTLP_PORT}"
