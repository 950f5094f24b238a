"""The machine that figures were taken on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

QUIET_LOAD = 0.5


def machine() -> str:
    """Processor, kernel, Python."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}"


def business() -> str:
    """What else it does now, by its load average."""
    load = os.getloadavg()[0]
    state = "quiet" if load < QUIET_LOAD else "busy with other work, which disturbs the figures"
    return f"load average before the start {load:.2f} ({state})"
