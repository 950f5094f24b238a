"""Fixtures shared by the operator's tests."""

import subprocess
from pathlib import Path

import pytest

from kube_apiserver import kube_apiserver, pytest_collection_finish

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["kube_apiserver", "pytest_collection_finish"]


@pytest.fixture(scope="session")
def helm() -> str:
    """The helm program, built when it is missing."""
    builder = ROOT / "e2e" / "kind" / "binaries.sh"
    done = subprocess.run([str(builder), "helm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(Path(done.stdout.splitlines()[-1]) / "helm")
