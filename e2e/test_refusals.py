"""What cannot work is refused at `kubectl apply`, with the sentence that says what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

import environment as penstock
from kube import KubectlError, wait_for
from resources import CLUSTER, GROUP, PAUSED, TOPIC, message_cluster

if TYPE_CHECKING:
    from kube import Kube

BAD_FILES = penstock.ROOT / "operator" / "tests" / "bad"
EXPECT = "# expect: "
KINDS = {"MessageCluster": CLUSTER, "Topic": TOPIC, "ConsumerGroup": GROUP}


@pytest.mark.smoke
def test_every_bad_file_is_refused_with_its_sentence(kube: Kube) -> None:
    """
    1. Every file of `operator/tests/bad` is applied; those about changes after the resource they change.
    2. Each is refused with the sentence in its first line.
    """
    files = sorted(BAD_FILES.glob("*.yaml"))
    assert files
    faults = []
    for file in files:
        text = file.read_text()
        sentence = text.splitlines()[0].removeprefix(EXPECT)
        *before, last = yaml.safe_load_all(text)
        try:
            for document in before:
                kube.apply(_paused(document))
            said = kube.refusal(_paused(last))
            if sentence not in said:
                faults.append(f"{file.name}: expected {sentence!r}, got {said.strip()!r}")
        except KubectlError as error:
            faults.append(f"{file.name}: {error}")
        for document in before:
            kube.delete(KINDS[document["kind"]], document["metadata"]["name"])
    assert not faults, "\n".join(faults)


def test_an_unknown_field_is_named(kube: Kube) -> None:
    """
    1. A spelling mistake in a field is refused by kubectl's strict validation, which names the field.
    2. Nothing was made.
    """
    said = kube.refusal(message_cluster("orders", replica=1))
    assert 'unknown field "spec.replica"' in said
    assert kube.find(CLUSTER, "orders") is None


def test_a_setting_that_the_broker_does_not_know_is_named_in_the_status(kube: Kube) -> None:
    """
    1. `spec.config` is open, so a wrong name passes the API server.
    2. The cluster does not become Ready, and its condition names the setting.
    3. The mistake is corrected: Ready.
    """
    kube.apply(message_cluster("orders", config={"log.retention.minuets": 5}))
    found = kube.wait_condition(CLUSTER, "orders", "Ready", "False")

    def named() -> bool:
        conditions = kube.get(CLUSTER, "orders")["status"]["conditions"]
        return any("log.retention.minuets" in condition.get("message", "") for condition in conditions)

    wait_for("a condition that names the setting", named, seconds=90, last_seen=lambda: str(found["status"]))
    kube.patch(CLUSTER, "orders", {"spec": {"config": {"log.retention.minuets": None}}})
    kube.wait_ready(CLUSTER, "orders")


def _paused(document: dict[str, Any]) -> dict[str, Any]:
    """The same with the annotation that keeps the operator from building what is only here to be changed."""
    metadata = document["metadata"]
    annotations = {**metadata.get("annotations", {}), PAUSED: "true"}
    return {**document, "metadata": {**metadata, "annotations": annotations}}
