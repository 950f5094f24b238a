"""`penstock up`: reading files and keeping resources without an API server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from penstock_operator.local.command import up
from penstock_operator.local.files import check_changes, load_files
from penstock_operator.local.store import LocalStore
from penstock_operator.reconcile.ports import Key

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.yaml"
BAD = Path(__file__).parent / "bad"


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_example_is_loaded_in_its_order() -> None:
    loaded = load_files([QUICKSTART])
    assert loaded.problems == []
    assert list(loaded.resources) == [
        ("MessageCluster", "quickstart"),
        ("Topic", "orders"),
        ("ConsumerGroup", "billing"),
    ]


def test_check_accepts_the_example() -> None:
    done = CliRunner().invoke(up, ["--check", str(QUICKSTART)])
    assert done.exit_code == 0
    assert done.output == "3 resources are fine\n"


# Files of two documents are about edits: see `test_edits_are_checked_against_what_was_there`.
BAD_ALONE = [path for path in sorted(BAD.glob("*.yaml")) if "---\n" not in path.read_text()]


@pytest.mark.parametrize("path", BAD_ALONE, ids=lambda path: path.stem)
def test_bad_files_are_refused_with_the_same_sentence(path: Path) -> None:
    done = CliRunner().invoke(up, [str(path)])
    assert done.exit_code == 2
    assert path.read_text().splitlines()[0].removeprefix("# expect: ") in done.output


def test_edits_are_checked_against_what_was_there(tmp_path: Path) -> None:
    path = BAD / "topic-partitions-up-only.yaml"
    first, second = path.read_text().split("---\n")
    old = load_files([write(tmp_path, first, "old.yaml")]).resources
    new = load_files([write(tmp_path, second, "new.yaml")]).resources
    ((identity, sentences),) = check_changes(old, new).items()
    assert identity == ("Topic", "payments")
    assert "partitions cannot become fewer" in sentences[0]
    assert check_changes(old, old) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "cannot be read"),
        ("\x00", "cannot be read"),
        ("just text", "a resource is a mapping"),
        ("kind: Pod", "kind 'Pod' is not one of Penstock's"),
    ],
)
def test_what_is_no_resource_is_said_with_file_and_place(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)
    (problem,) = load_files([path]).problems
    assert problem.startswith(str(path))
    assert sentence in problem


def test_twins_and_big_files_are_refused(tmp_path: Path) -> None:
    (problem,) = load_files([QUICKSTART, write(tmp_path, QUICKSTART.read_text().split("---")[1])]).problems
    assert "Topic orders is there twice" in problem
    (problem,) = load_files([write(tmp_path, "# " + "x" * (4 * 1024 * 1024))]).problems
    assert "bigger than" in problem


def topic(**spec: Any) -> dict[str, Any]:
    return {"kind": "Topic", "metadata": {"name": "t"}, "spec": {"clusterRef": {"name": "c"}, **spec}}


async def test_the_store_keeps_identity_generation_and_finalizers(tmp_path: Path) -> None:
    store, key = LocalStore(tmp_path / "memory.json"), Key("Topic", "default", "t")
    assert store.update({("Topic", "t"): topic()}) == [("Topic", "t")]
    assert store.update({("Topic", "t"): topic()}) == []
    first = await store.get(key)
    assert first is not None
    store.update({("Topic", "t"): topic(partitions=2)})
    second = await store.get(key)
    assert second is not None
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["metadata"]["generation"] == 2
    await store.write_finalizers(second, ["penstock.io/topic"])
    assert store.update({}) == [("Topic", "t")]
    held = await store.get(key)
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    await store.write_finalizers(held, [])
    assert await store.get(key) is None


async def test_what_was_carried_out_is_remembered_over_restarts(tmp_path: Path) -> None:
    memory, key = tmp_path / "memory.json", Key("Topic", "default", "t")
    store = LocalStore(memory)
    store.update({("Topic", "t"): topic()})
    resource = await store.get(key)
    assert resource is not None
    await store.write_status(resource, {"config": {"retention.ms": 5}, "state": "Empty"})
    again = LocalStore(memory)
    again.update({("Topic", "t"): topic()})
    remembered = await again.get(key)
    assert remembered is not None
    assert remembered["status"] == {"config": {"retention.ms": 5}}
    memory.write_text("nonsense")
    LocalStore(memory)  # said in the log, and gone on without


def test_the_command_needs_neither_kopf_nor_kubernetes() -> None:
    code = (
        "import sys; sys.modules['kopf'] = sys.modules['kubernetes'] = None;"
        "import penstock_operator.local.command, penstock_operator.local.runtime, penstock_operator.local.view"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
