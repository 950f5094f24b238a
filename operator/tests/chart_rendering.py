"""Renders the chart with helm, away from any cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "penstock"


def run(helm: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False, env=environment)


def rendered(helm: str, *settings: str) -> list[dict[str, Any]]:
    done = run(helm, "template", "penstock", str(CHART), "--namespace", "penstock-system", *settings)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]
