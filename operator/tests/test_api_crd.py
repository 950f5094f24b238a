"""The CRDs: the committed files are what the models say, and what Kubernetes' structural schemas allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock_operator.api.check import check_resource
from penstock_operator.api.crd import KINDS, crd_files, custom_resource_definition, resource_schema
from penstock_operator.api.rules import Rule
from penstock_operator.api.schema import attach_rules

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "crds", ROOT / "charts" / "penstock" / "crds")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_committed_files_are_what_the_models_say(folder: Path) -> None:
    present = {path.name: path.read_text() for path in folder.glob("*.yaml")}
    assert present == crd_files(), "run tools/generate-crds"


def nodes(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and everything below it."""
    found = [schema]
    for child in schema.get("properties", {}).values():
        found += nodes(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += nodes(schema[key])
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_schemas_are_structural_and_without_defaults(kind: Any) -> None:
    for node in nodes(resource_schema(kind)):
        assert node.keys().isdisjoint({"default", "title", "$ref", "nullable"})
        typed = "type" in node or "x-kubernetes-int-or-string" in node
        assert typed or node.get("x-kubernetes-preserve-unknown-fields"), node


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_of_a_spec_is_explained(kind: Any) -> None:
    spec = resource_schema(kind)["properties"]["spec"]
    unexplained = [name for name, child in spec["properties"].items() if not child.get("description")]
    assert unexplained == []


def test_names_and_subresources() -> None:
    definitions = {kind.kind: custom_resource_definition(kind)["spec"] for kind in KINDS}
    names = {
        kind: (spec["names"]["shortNames"], spec["names"]["singular"]) for kind, spec in definitions.items()
    }
    assert names == {
        "MessageCluster": (["mc"], "messagecluster"),
        "Topic": (["mt"], "topic"),
        "ConsumerGroup": (["cg"], "consumergroup"),
    }
    for kind, spec in definitions.items():
        assert spec["names"]["categories"] == ["penstock"]
        (version,) = spec["versions"]
        assert version["name"] == "v1alpha1"
        assert "status" in version["subresources"]
        assert ("scale" in version["subresources"]) == (kind == "MessageCluster")


def test_a_rule_at_an_unknown_path_is_noticed() -> None:
    rule = Rule(name="x", path="spec.nothing", cel="true", message="x", holds=lambda new, old: True)
    with pytest.raises(KeyError):
        attach_rules(resource_schema(KINDS[0]), (rule,))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_fine(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert check_resource(document) == []
