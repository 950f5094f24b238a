"""Fetches the message schemas: Maven brings the kafka-clients jar into a cache folder, and the schemas are read out of it.

The jar is never part of the repository. Where it is already in the cache, no Maven is needed.
"""

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

MAVEN_SECONDS_MAX = 600
_FOLDER = "common/message/"
_COMMENT_LINE = re.compile(r"^\s*//.*$", re.MULTILINE)


class SchemasMissingError(RuntimeError):
    """The jar could not be fetched or read; the text says what to do."""


def cache_folder() -> Path:
    """Where downloaded files of the build are kept: `penstock` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "penstock"


def _cached_jar(version: str) -> Path:
    return cache_folder() / f"kafka-clients-{version}.jar"


def jar_is_cached(version: str) -> bool:
    """Whether the schemas can be read without Maven."""
    return _cached_jar(version).exists()


def jar_path(version: str) -> Path:
    """The kafka-clients jar of this version, fetched with Maven when the cache does not hold it."""
    jar = _cached_jar(version)
    if not jar.exists():
        _fetch(version, jar)
    return jar


def _fetch(version: str, jar: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise SchemasMissingError(
            f"Maven is needed to fetch kafka-clients {version}: install it (on Debian: apt-get install maven), or put the jar at {jar}"
        )
    jar.parent.mkdir(parents=True, exist_ok=True)
    arguments = [
        maven,
        "--batch-mode",
        "--quiet",
        "dependency:copy",
        f"-Dartifact=org.apache.kafka:kafka-clients:{version}",
        f"-DoutputDirectory={jar.parent}",
    ]
    try:
        # Outside any project folder, so that no pom.xml that happens to lie around takes part.
        done = subprocess.run(
            arguments, cwd=jar.parent, capture_output=True, text=True, timeout=MAVEN_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SchemasMissingError(
            f"Maven did not fetch kafka-clients {version} within {MAVEN_SECONDS_MAX} seconds"
        ) from error
    if done.returncode != 0 or not jar.exists():
        raise SchemasMissingError(
            f"Maven could not fetch kafka-clients {version}:\n{done.stdout}{done.stderr}".rstrip()
        )


def read_schemas(version: str) -> dict[str, dict[str, Any]]:
    """All message schemas of this version by message name, as the jar has them but for the comment lines."""
    jar = jar_path(version)
    schemas: dict[str, dict[str, Any]] = {}
    try:
        with zipfile.ZipFile(jar) as archive:
            for entry in archive.namelist():
                if entry.startswith(_FOLDER) and entry.endswith(".json"):
                    schema = json.loads(_COMMENT_LINE.sub("", archive.read(entry).decode()))
                    schemas[schema["name"]] = schema
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise SchemasMissingError(f"{jar} cannot be read ({error}): delete it and run this again") from error
    if not schemas:
        raise SchemasMissingError(f"{jar} holds no message schemas: delete it and run this again")
    return schemas
