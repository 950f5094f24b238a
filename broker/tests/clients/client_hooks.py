"""pytest's hooks for the folders whose tests drive foreign clients: their marks, missing programs, foreign warnings."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from driver_kcat import KcatMissingError, kcat
from penstock.testing.apache_kafka import KafkaMissingError, java_command

# Warnings are errors in our tests. Two of kafka-python's are not ours to mend: it reads its schemas by a call that
# Python 3.11 deprecates, and leaves a pair of sockets open when it closes.
FOREIGN_WARNINGS = (
    "ignore:(read_text|open_text) is deprecated:DeprecationWarning",
    "ignore:unclosed <socket:ResourceWarning",
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.coordinator.assignors.cooperative_sticky  # noqa: F401


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario(words): a line of docs/compatibility.md")
    config.addinivalue_line("markers", "kcat: needs the kcat program")


def mark_foreign(items: list[pytest.Item], folder: Path) -> None:
    """Tests of this folder drive foreign clients, whose warnings are not ours."""
    for item in items:
        if item.path.parent == folder:
            for warning in FOREIGN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, needed, missing in (
        ("java", lambda: java_command("none"), KafkaMissingError),
        ("kcat", kcat, KcatMissingError),
    ):
        if item.get_closest_marker(mark) is None:
            continue
        opt_out = f"PENSTOCK_SKIP_{mark.upper()}"
        if os.environ.get(opt_out) == "1":
            pytest.skip(f"{opt_out}=1 says that this machine has no {mark}")
        try:
            needed()
        except missing as error:
            pytest.fail(f"{error}, or leave these tests out with {opt_out}=1", pytrace=False)
