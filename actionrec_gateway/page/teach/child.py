"""Becomes another program, which ends with its parent and leaves the processor to whoever is served.

    python child.py PARENT_PID PROGRAM [ARGUMENT ...]

Run as a file: it needs nothing of this package, and what it becomes does not either.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NICE = 10


def main() -> int:
    """Become the program; returns where the parent is gone already."""
    parent, *command = sys.argv[1:]
    # As Ctrl-C: it leaves no half archive behind. A shell's background job would have it ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))
    os.nice(_NICE)
    if os.getppid() == int(parent):
        os.execv(command[0], command)
    return 1


if __name__ == "__main__":
    sys.exit(main())
