"""``python -m actionrec_gateway.contracts.health``: exit code 0 where this container's gateway is ready."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

from .container import port

_SECONDS = 8.0


def main() -> int:
    """Ask it; returns the exit code."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port(os.environ)}/ready", timeout=_SECONDS):
            return 0
    except (OSError, urllib.error.URLError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
