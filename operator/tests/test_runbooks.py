"""The runbooks: whole, and with commands that exist, so that nobody finds out at night that they do not."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from chart_rendering import ROOT
from monitoring_files import RUNBOOKS
from penstock.cli.main import penstock
from penstock_operator.api import names
from runbook_commands import Command, commands, every_command

PAGES = sorted(RUNBOOKS.glob("*.md"))
PROGRAMS = {"kubectl", "penstock", "grep", "curl", "df"}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
KUBERNETES_KINDS = {
    "pod", "pods", "lease", "pvc", "networkpolicy", "deployment", "crd",
}  # fmt: skip
DEFINITIONS = {
    name: definition
    for path in sorted((ROOT / "crds").glob("*.yaml"))
    for definition in [yaml.safe_load(path.read_text())]
    for name in (*definition["spec"]["names"]["shortNames"], definition["spec"]["names"]["singular"])
}
TALKS_OF_KINDS = {"get", "describe", "wait", "delete", "patch", "annotate"}


@by_page
def test_has_every_part(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    parts = ["**Means:**", "**Users notice:**", "## Look", "## End it", "## Over when"]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert commands(page)


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, section = target.partition("#")
        other = page.parent / path if path else page
        assert other.is_file(), target
        headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not section or section in slugs, target


@by_page
def test_only_programs_that_are_there(page: Path) -> None:
    assert {command.program for command in commands(page)} <= PROGRAMS


@pytest.mark.parametrize("command", every_command("penstock"), ids=str)
def test_penstock_takes_it(command: Command) -> None:
    words = list(command.words[1:])
    found: click.Command = penstock
    context = click.Context(found, info_name="penstock")
    while isinstance(found, click.Group):
        name = words.pop(0)
        inner = found.get_command(context, name)
        assert inner is not None, f"there is no `{name}`"
        found, context = inner, click.Context(inner, parent=context, info_name=name)
    found.parse_args(context, words)  # raises what a user would read


@pytest.mark.kube
@pytest.mark.parametrize("command", every_command("kubectl"), ids=str)
def test_kubectl_knows_the_words(command: Command, kubectl: str) -> None:
    # It reads all options before it prints its help, and asks no server.
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(
        [kubectl, *command.words[1:], "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def verb_and_arguments(command: Command) -> tuple[str, list[str]]:
    """The verb and what follows it, without options. All our options that take a value as a word of its own are `-n`, `-l`,
    `-o` and `-p`."""
    plain: list[str] = []
    words = iter(command.words[1:])
    for word in words:
        if word in ("-n", "-l", "-o", "-p"):
            next(words)
        elif not word.startswith("-"):
            plain.append(word)
    return plain[0], plain[1:]


def option(command: Command, name: str) -> str | None:
    words = list(command.words)
    return words[words.index(name) + 1] if name in words else None


@pytest.mark.parametrize("command", every_command("kubectl"), ids=str)
def test_kinds_and_labels_are_ours_or_kubernetes_own(command: Command) -> None:
    verb, arguments = verb_and_arguments(command)
    if verb in TALKS_OF_KINDS:
        kinds = set(arguments[0].split("/")[0].split(","))
        assert kinds <= KUBERNETES_KINDS | set(DEFINITIONS), command
    for part in (option(command, "-l") or "").split(","):
        label = part.partition("=")[0]
        if label.startswith(names.GROUP):
            assert label in (names.LABEL_CLUSTER, names.LABEL_SHARD, names.LABEL_ROLE), command
    if verb == "annotate":
        annotation = re.split(r"=|-$", arguments[-1])[0]
        assert annotation in (names.ANNOTATION_PAUSED, names.ANNOTATION_HAND_OVER), command


def schema(kind: str) -> Any:
    return DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def assert_fields_exist(within: Any, value: Any, where: str) -> None:
    """Every key of a patch is a field of the resource."""
    if isinstance(value, dict):
        for name, inner in value.items():
            assert name in within["properties"], f"{where} has no {name}"
            assert_fields_exist(within["properties"][name], inner, f"{where}.{name}")


@pytest.mark.parametrize("command", every_command("kubectl"), ids=str)
def test_fields_of_our_resources_exist(command: Command) -> None:
    verb, arguments = verb_and_arguments(command)
    kind = arguments[0].split("/")[0] if arguments else ""
    if kind not in DEFINITIONS:
        return
    if verb == "patch":
        assert_fields_exist(schema(kind), json.loads(option(command, "-p") or ""), kind)
    output = option(command, "-o") or ""
    if output.startswith("jsonpath="):
        path = output.removeprefix("jsonpath={").removesuffix("}")
        assert re.fullmatch(r"(\.\w+(\[[^]]*\])?)+", path), output
        within = schema(kind)
        for name in re.findall(r"\.(\w+)(?![^\[]*\])", path):
            within = within.get("items", within)
            assert name in within["properties"], f"{kind} has no {path}"
            within = within["properties"][name]
