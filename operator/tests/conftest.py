"""Fixtures shared by the operator's tests."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kube_apiserver import kube_apiserver, pytest_collection_finish

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["kube_apiserver", "pytest_collection_finish"]


@pytest.fixture(scope="session")
def helm() -> str:
    """The helm program, built when it is missing."""
    return built("helm")


@pytest.fixture(scope="session")
def kubectl() -> str:
    """The kubectl program, built when it is missing."""
    return built("kubectl")


def built(program: str) -> str:
    builder = ROOT / "e2e" / "kind" / "binaries.sh"
    done = subprocess.run([str(builder), program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(Path(done.stdout.splitlines()[-1]) / program)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' checker of rules; on Debian it is installed when it is missing."""
    installer = ROOT / "tools" / "install-prerequisites"
    done = subprocess.run([str(installer), "promtool"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = shutil.which("promtool")
    assert found is not None
    return found
