"""The checker of histories, compiled once, and what a machine must have for networks of their own."""

from __future__ import annotations

import os
import shutil

import pytest

from lin_checker import Checker
from penstock.testing.fault_network import PROGRAMS


@pytest.fixture(scope="session")
def checker() -> Checker:
    """The compiled checker."""
    return Checker.build()


@pytest.fixture(scope="session")
def needs_namespaces() -> None:
    """Fails, with a sentence, where network namespaces cannot be made; PENSTOCK_SKIP_NAMESPACES=1 leaves the test out."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing and os.geteuid() == 0:
        return
    if os.environ.get("PENSTOCK_SKIP_NAMESPACES") == "1":
        pytest.skip("PENSTOCK_SKIP_NAMESPACES=1 says that this machine lets nobody make network namespaces")
    needed = ", ".join(["root", *missing])
    pytest.fail(
        f"network namespaces need {needed} (Debian's packages: iproute2, util-linux, iptables);"
        " PENSTOCK_SKIP_NAMESPACES=1 leaves these tests out",
        pytrace=False,
    )
