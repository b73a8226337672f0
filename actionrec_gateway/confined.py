"""What a process starts with that gives up its rights before it looks at a stranger's bytes."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": str(Path(__file__).parents[1]),  # where this package lies, installed or not
    # Before it gives up its rights, the process must have one thread.
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")},
}
"""All of its variables: none of the gateway's own, some of which are secret."""
