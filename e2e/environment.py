"""From a bare machine to Penstock on kind: engine, node image, cluster, product image, client image, chart.

Every step does nothing when its result is there, says what it does on stderr, and is used by the scenarios and by
`make demo-kind` alike. The work itself is in the scripts of `kind/` and in `tools/build-image`.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from client_image import build_client_image
from collector_image import build_image_of
from docker_images import docker, forget_other_tags
from kube import ON_FIRST_NODE, Kube

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KIND = HERE / "kind"
CHART = ROOT / "charts" / "penstock"
RELEASE = "penstock"
OPERATOR_NAMESPACE = "penstock-system"
IMAGE_REPOSITORY = "penstock"
COLLECTOR = "otel-collector"
SCRIPT_SECONDS_MAX = 3600
HELM_SECONDS_MAX = 180


class SetupError(Exception):
    """A step of the set-up failed; its own output, above on stderr, says why."""


@dataclass(frozen=True)
class Environment:
    """A cluster with Penstock on it, and the images that are loaded there."""

    name: str
    kube: Kube
    image: str
    client_image: str


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def prepare_machine() -> None:
    """Engine, kind, kubectl and the node image: minutes on a machine that has none of them."""
    _script(KIND / "node-image.sh")


def bring_up(name: str, operator_replicas: int = 1, workers: int = 0) -> Environment:
    """A cluster of that name with the present source tree's Penstock installed. Without workers everything runs on its
    one node; otherwise the operator and the clients do on the first one, and brokers on the workers."""
    prepare_machine()
    kubeconfig = Path(_script(KIND / "cluster.sh", "up", name, str(workers)))
    kube = Kube(kubeconfig, Path(_script(KIND / "binaries.sh")))
    image = build_product_image()
    client_image = build_client_image(image)
    load_images(name, kube, image, client_image)
    install(kube, image, operator_replicas)
    return Environment(name, kube, image, client_image)


def wire_network(name: str) -> None:
    """Gives nodes that were started anew, and registered again, their place in the pod network."""
    _script(KIND / "cluster.sh", "wire", name)


def tear_down(name: str) -> None:
    """Deletes the cluster."""
    _script(KIND / "cluster.sh", "down", name)


@functools.cache
def build_product_image() -> str:
    """Builds the image from the source tree. Its tag changes with its content, so that a kept cluster notices."""
    base = _script(KIND / "base-image.sh")
    building = f"{IMAGE_REPOSITORY}:e2e"
    say(f"building {building} from {base}")
    _script(ROOT / "tools" / "build-image", building, base)
    image = f"{IMAGE_REPOSITORY}:e2e-{docker('image', 'inspect', '-f', '{{.Id}}', building)[7:19]}"
    docker("tag", building, image)
    forget_other_tags(image)
    return image


@functools.cache
def build_collector_image() -> str:
    """Builds OpenTelemetry's Collector from its Go module, minutes the first time, and its image."""
    base = _script(KIND / "base-image.sh")
    return build_image_of(Path(_script(KIND / "binaries.sh", COLLECTOR)) / COLLECTOR, base)


def load_images(name: str, kube: Kube, *images: str) -> None:
    """Puts images of the engine into the cluster's nodes; in one go, because they share most of their bytes."""
    say(f"loading {' and '.join(images)} into {name}")
    _run(["kind", "load", "docker-image", "--name", name, *images], kube)


def install(kube: Kube, image: str, operator_replicas: int = 1) -> None:
    """Installs or upgrades the chart and waits until the operator is available."""
    say(f"installing the chart ({operator_replicas} operator replicas)")
    values = [
        f"image.repository={image.partition(':')[0]}",
        f"image.tag={image.partition(':')[2]}",
        f"replicas={operator_replicas}",
    ]
    if "pending-" in helm(kube, "list", "--all", "--output=json"):
        # A run that was killed in the middle of this leaves a release that helm refuses to touch.
        helm(kube, "uninstall", RELEASE)
    values_in_json = [f"{name}={json.dumps(value)}" for name, value in ON_FIRST_NODE.items()]
    helm(
        kube,
        *("upgrade", "--install", RELEASE, str(CHART)),
        *(f"--set={value}" for value in values),
        *(f"--set-json={value}" for value in values_in_json),
    )


def set_chart_values(kube: Kube, *values: str) -> None:
    """Changes values of the chart and leaves the others; waits until the operator is available with them."""
    helm(kube, "upgrade", RELEASE, str(CHART), "--reuse-values", *(f"--set={value}" for value in values))


def helm(kube: Kube, *arguments: str) -> str:
    """Runs helm in the operator's namespace and waits for what it started."""
    _script(KIND / "binaries.sh", "helm")
    where = ["--namespace", OPERATOR_NAMESPACE]
    if arguments[0] == "upgrade":
        where += ["--create-namespace", "--wait", f"--timeout={HELM_SECONDS_MAX}s"]
    return _run(["helm", *arguments, *where], kube)


def _script(path: Path, *arguments: str) -> str:
    """Runs a script, its progress on our stderr; returns the last line it printed."""
    done = subprocess.run(
        [str(path), *arguments], stdout=subprocess.PIPE, text=True, check=False, timeout=SCRIPT_SECONDS_MAX
    )
    if done.returncode != 0:
        raise SetupError(f"{path.relative_to(ROOT)} {' '.join(arguments)} failed with code {done.returncode}")
    lines = done.stdout.splitlines()
    return lines[-1] if lines else ""


def _run(command: list[str], kube: Kube) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=kube.environment(),
        timeout=SCRIPT_SECONDS_MAX,
    )
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
