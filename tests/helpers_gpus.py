"""A host that seems to have GPUs: an interpreter whose torch counts some, and programs of NVIDIA's that say so.

Nothing runs on them. What is real is everything around: TorchServe, its workers, and what `deploy` makes of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
PROBE = "device_count"
"""A word that only the question for GPUs has, of all that the server's interpreter is called with."""


@dataclass(frozen=True)
class Nvidia:
    """Programs in a folder of their own.

    Args:
        folder: for the programs; it must not be there.
        names: of the GPUs, as torch and nvidia-smi say.
        gib: memory of each.
        mps: whether the control program of MPS finds its daemon; None: there is no such program.
    """

    folder: Path
    names: Sequence[str] = ("NVIDIA H100", "NVIDIA H100")
    gib: float = 79.6
    mps: bool | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        rows = "".join(f"{number}\\n" for number in range(len(self.names)))
        self._program("nvidia-smi", f"echo \"$*\" >> {self.calls}\nprintf 'index\\n{rows}'")
        gpus = json.dumps(["2.14.1", [[name, int(self.gib * GIB)] for name in self.names]])
        # As CUDA does: of the GPUs that the variable names, those up to the first that is not there.
        own = sys.executable
        self._program(
            "python", f'case "$*" in *{PROBE}*) exec {own} {self.folder}/seen ;; esac\nexec {own} "$@"'
        )
        (self.folder / "seen").write_text(
            "import itertools, json, os\n"
            f"version, gpus = json.loads({gpus!r})\n"
            "visible = os.environ.get('CUDA_VISIBLE_DEVICES')\n"
            "every = range(len(gpus))\n"
            "numbers = every if visible is None else [int(each) for each in visible.split(',') if each]\n"
            "there = itertools.takewhile(lambda number: 0 <= number < len(gpus), numbers)\n"
            "print(json.dumps([version, [gpus[number] for number in there]]))\n",
            encoding="utf-8",
        )
        if self.mps is not None:
            self._program("nvidia-cuda-mps-control", _mps_control(self.mps, self.folder / "asked"))

    @property
    def python(self) -> Path:
        """The interpreter whose torch sees the GPUs."""
        return self.folder / "python"

    @property
    def calls(self) -> Path:
        """What nvidia-smi was called with, a line each."""
        return self.folder / "calls"

    @property
    def path(self) -> str:
        """A ``PATH`` with the programs."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def _program(self, name: str, script: str) -> None:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)


def _mps_control(runs: bool, asked: Path) -> str:
    """It answers a question on its standard input, and -d, which would start a daemon, leaves a trace."""
    answer = "echo 100.0" if runs else "echo 'Cannot find MPS control daemon process'; exit 1"
    return f'[ $# -eq 0 ] || {{ echo "$@" >> {asked}; exit 1; }}\ncat > /dev/null\n{answer}'
