"""What the environment says about the runs: their length, and their seed."""

from __future__ import annotations

import os
import random

FAULTS = int(os.environ.get("PENSTOCK_LINEAR_FAULTS", "4"))
"""Faults in a run."""

SEED = int(os.environ.get("PENSTOCK_LINEAR_SEED", str(random.SystemRandom().randrange(1 << 32))))
AGAIN = f"PENSTOCK_LINEAR_SEED={SEED} PENSTOCK_LINEAR_FAULTS={FAULTS}"
