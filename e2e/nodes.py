"""Nodes of the kind cluster are Docker containers of the same name: paused, killed for good, and put back; closed to new
pods, or to what brokers tell each other; and the API server is stopped and let go on.

What is broken here is mended when the context is left, whatever happened inside, so that scenarios run in any order.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import environment as penstock
from docker_images import docker
from kube import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from environment import Environment
    from kube import Kube
    from shard import Shard

VOLUMES_FOLDER = "/var/local-path-provisioner"
"""Where the volumes of the default StorageClass are on a node."""
READY_SECONDS_MAX = 90.0
SERVER = "kube-apiserver"
CLOSED = "penstock.io/e2e-closed"
PEER_PORT = 9093
"""What brokers of a shard reach each other by."""


def workers(ready: Environment) -> list[str]:
    """Names of the nodes that brokers run on."""
    names = [node["metadata"]["name"] for node in ready.kube.items("nodes")]
    return [name for name in names if name != first_node(ready)]


def first_node(ready: Environment) -> str:
    """The node of the API server, the operator and the clients."""
    return f"{ready.name}-control-plane"


def on_node(node: str, command: str) -> str:
    """Runs a shell command on a node; returns what it printed. Raises RuntimeError with its words."""
    return docker("exec", node, "sh", "-c", command)


def rename_image(ready: Environment, image: str, name: str) -> str:
    """Gives an image that the workers have another name there, too; returns it."""
    here = "docker.io/library"
    for node in workers(ready):
        on_node(node, f"ctr --namespace k8s.io images tag --force {here}/{image} {here}/{name}")
    return name


@contextmanager
def paused(ready: Environment, node: str) -> Iterator[None]:
    """Nothing on this node runs inside, and its connections stay open; afterwards all goes on where it was."""
    docker("pause", node)
    try:
        yield
    finally:
        docker("unpause", node)
        _wait_ready(ready, node)


@contextmanager
def lost_for_good(ready: Environment, node: str) -> Iterator[None]:
    """The node loses its power, and its Node object is deleted, as a cloud does with a machine that is gone. Afterwards an
    empty one of the same name takes its place: nothing of its volumes is left."""
    docker("kill", node)
    try:
        ready.kube.run("delete", "node", node)
        yield
    finally:
        # Once more, for a run that broke off before: a kubelet that found the old object would start its pods again.
        ready.kube.run("delete", "node", node, "--ignore-not-found")
        docker("start", node)
        on_node(node, f"rm -rf {VOLUMES_FOLDER}/*")
        wait_for(f"node {node} to register", lambda: ready.kube.find("node", node), seconds=READY_SECONDS_MAX)
        penstock.wire_network(ready.name)
        _wait_ready(ready, node)


@contextmanager
def no_new_pods(kube: Kube) -> Iterator[None]:
    """No node takes pods inside; those that run stay, and lead on: they would leave a node that was cordoned."""
    kube.run("taint", "nodes", "--all", f"{CLOSED}:NoSchedule")
    try:
        yield
    finally:
        kube.run("taint", "nodes", "--all", f"{CLOSED}-")


@contextmanager
def cut_off(shard: Shard, *pods: str) -> Iterator[None]:
    """These brokers and all others of their shard do not reach each other inside; clients, Kubernetes and Prometheus reach
    them as before. A packet to or from them is answered with a reset, as where a firewall was closed."""
    rules = [(shard.node(pod), rule) for pod in pods for rule in _closed(shard.address(pod))]
    with ExitStack() as opened:
        for node, rule in rules:
            on_node(node, f"iptables -I FORWARD {rule}")
            opened.callback(on_node, node, f"iptables -D FORWARD {rule}")
        yield


def _closed(address: str) -> list[str]:
    """The rules that a pod's node needs for it."""
    return [
        f"{whose} {address} -p tcp {port} {PEER_PORT} -j REJECT --reject-with tcp-reset"
        for whose in ("-s", "-d")
        for port in ("--sport", "--dport")
    ]


@contextmanager
def api_server_away(ready: Environment) -> Iterator[None]:
    """Nobody is answered by the API server inside; its connections stay open, which is harder than a refusal."""
    node = first_node(ready)
    on_node(node, f"kill -STOP $(pidof {SERVER})")
    try:
        yield
    finally:
        on_node(node, f"kill -CONT $(pidof {SERVER})")
        wait_for(
            "the API server to answer",
            lambda: ready.kube.attempt("get", "--raw", "/readyz", "--request-timeout=5s").returncode == 0,
            seconds=READY_SECONDS_MAX,
        )


def _wait_ready(ready: Environment, node: str) -> None:
    ready.kube.run("wait", "--for=condition=Ready", f"node/{node}", f"--timeout={READY_SECONDS_MAX:.0f}s")
