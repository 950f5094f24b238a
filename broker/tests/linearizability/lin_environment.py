"""What the environment says about the runs: how many, and the seed of the first."""

from __future__ import annotations

import os
import random

ROUNDS = int(os.environ.get("PENSTOCK_LINEAR_ROUNDS", "1"))
"""How often every scenario is played, each time with the next seed."""

SEED = int(os.environ.get("PENSTOCK_LINEAR_SEED", str(random.SystemRandom().randrange(1 << 32))))


def again(seed: int) -> str:
    """What to put into the environment to play the round of this seed again."""
    return f"PENSTOCK_LINEAR_SEED={seed}"
