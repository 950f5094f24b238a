"""Resources from YAML files: read, checked like the API server checks them, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from penstock_operator.api.check import check_resource

NAMESPACE: Final = "default"  # `penstock up` knows no others; a namespace in a file is ignored
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
RESOURCES_MAX: Final = 10_000

Identity = tuple[str, str]  # kind, name


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What the files say: resources in their order, and sentences about what cannot be used."""

    resources: dict[Identity, dict[str, Any]]
    problems: list[str]


def load_files(paths: list[Path]) -> Loaded:
    """Read and check all resources of the files. A bad resource or file costs only itself."""
    resources: dict[Identity, dict[str, Any]] = {}
    problems: list[str] = []
    for path in paths:
        try:
            documents = _read(path)
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{path}: cannot be read: {_one_line(error)}")
            continue
        for number, document in enumerate(documents, 1):
            found = check_resource(document) or _cannot_be_local(document)
            where = f"{path}, document {number}"
            if found:
                problems += [f"{where}: {_title(document)}{problem}" for problem in found]
                continue
            identity = (document["kind"], document["metadata"]["name"])
            if identity in resources:
                problems.append(
                    f"{where}: {identity[0]} {identity[1]} is there twice: remove one or rename it"
                )
                continue
            resources[identity] = document
    if len(resources) > RESOURCES_MAX:
        problems.append(f"there are more than {RESOURCES_MAX} resources: split them over several runs")
    return Loaded(resources=resources, problems=problems)


def check_changes(
    old: dict[Identity, dict[str, Any]], new: dict[Identity, dict[str, Any]]
) -> dict[Identity, list[str]]:
    """Sentences about resources that may not become what the files now say."""
    refused = {}
    for identity, resource in new.items():
        before = old.get(identity)
        if before is not None and (found := check_resource(resource, before)):
            refused[identity] = found
    return refused


def file_stamps(paths: list[Path]) -> list[tuple[int, int] | None]:
    """Modification time (ns) and size of each file, to see whether one was edited; None for one that is not there."""
    stamps: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_mtime_ns, stat.st_size))
    return stamps


def _read(path: Path) -> list[Any]:
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ValueError(f"it is bigger than {FILE_BYTES_MAX} bytes")
    return [document for document in yaml.safe_load_all(raw.decode()) if document is not None]


def _cannot_be_local(document: dict[str, Any]) -> list[str]:
    """Sentences about what a valid resource asks of Kubernetes and nobody can give here."""
    if (document["spec"].get("tracing") or {}).get("headersSecret") is None:
        return []
    return [
        "spec.tracing.headersSecret: there are no Secrets outside Kubernetes: leave it out, and send to a collector on this machine"
        " that adds the headers"
    ]


def _title(document: Any) -> str:
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        return ""
    return f"{document.get('kind')} {document['metadata'].get('name')}: "


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
