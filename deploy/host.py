"""What this host has for a server: cores, GPUs that torch sees, MPS. Nothing is started that stays."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .preflight import DeployError
from .sizing import Gpu, Host

VISIBLE = "CUDA_VISIBLE_DEVICES"
NUMBERED = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Environment variable with which CUDA counts GPUs as nvidia-smi does. By default the fastest is the first."""

_DRIVER = Path("/proc/driver/nvidia")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_TORCH_SECONDS = 120.0
"""Seconds within which torch must have been imported, on a slow disk."""
_MPS_CONTROL = "nvidia-cuda-mps-control"
_MPS_SECONDS = 5.0
_ASK_TORCH = """
import json, torch
seen = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
gpus = [torch.cuda.get_device_properties(number) for number in seen]
print(json.dumps([torch.__version__, [[gpu.name, gpu.total_memory] for gpu in gpus]]))
"""


def look(python: Path, device_ids: Sequence[int] | None = None) -> Host:
    """What there is for a server on this host.

    Args:
        python: the server's interpreter, whose torch must see the GPUs.
        device_ids: numbers of the GPUs to use, as nvidia-smi counts; None: all that there are.

    Raises:
        DeployError: a GPU that was asked for is not there, or `VISIBLE` names GPUs by other than numbers.
    """
    visible = _visible()
    gpus: list[Gpu] = []
    if device_ids is not None or _expected():
        version, seen = _seen_by_torch(python)
        numbers = range(len(seen)) if visible is None else visible
        # Where the variable names a GPU that is not there, CUDA ignores it and all after it.
        gpus = [Gpu(number, *each) for number, each in zip(numbers, seen, strict=False)]
        if device_ids is not None:
            gpus = _chosen(gpus, device_ids, version)
    return Host(cores(), tuple(gpus), mps=bool(gpus) and mps_runs())


def device_ids(text: str) -> tuple[int, ...]:
    """Numbers of GPUs as in ``0,2``.

    Raises:
        DeployError: it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise DeployError(
            f"DEVICE_IDS={text} is no list of GPUs",
            "give each number once, as nvidia-smi counts: DEVICE_IDS=0,2",
        )
    return tuple(int(part) for part in parts)


def cores() -> int:
    """Cores that this process may use: those it may run on, or fewer where its control group has a quota."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text(encoding="utf-8").split()
        return min(count, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return count


def mps_runs() -> bool:
    """Whether NVIDIA's Multi-Process Service runs; new processes use it then. It is asked, never started."""
    program = shutil.which(_MPS_CONTROL)
    if program is None:
        return False
    try:
        asked = subprocess.run(
            [program],
            input="get_default_active_thread_percentage\n",
            capture_output=True,
            text=True,
            timeout=_MPS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0 and "Cannot find" not in asked.stdout + asked.stderr


def _expected() -> bool:
    """Whether anything speaks for a GPU. Where nothing does, torch need not be asked, which takes seconds."""
    return bool(shutil.which("nvidia-smi") or os.environ.get(VISIBLE) or _DRIVER.exists())


def _visible() -> list[int] | None:
    """The GPUs that the environment limits a process to; None: it does not."""
    text = os.environ.get(VISIBLE)
    if not text:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise DeployError(
            f"{VISIBLE}={text}: TorchServe takes numbers only",
            f"set it to numbers as nvidia-smi gives them: {VISIBLE}=0,2",
        ) from error


def _seen_by_torch(python: Path) -> tuple[str, list[tuple[str, float]]]:
    """The version of the server's torch, and each GPU that it sees: name, memory in GiB."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | NUMBERED
    try:
        said = subprocess.run(
            [str(python), "-W", "ignore", "-c", _ASK_TORCH],
            env=environment,
            cwd="/",  # Python looks for modules there first, and not everybody can write there
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=True,
        ).stdout
        version, gpus = json.loads(said.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        stderr = getattr(error, "stderr", None) or str(error)
        raise DeployError(
            f"torch does not say which GPUs there are: {stderr.strip().splitlines()[-1]}",
            f"try it: {python} -c 'import torch; print(torch.cuda.device_count())'",
        ) from error
    return version, [(name, memory / 2**30) for name, memory in gpus]


def _chosen(gpus: Sequence[Gpu], numbers: Sequence[int], version: str) -> list[Gpu]:
    there = {gpu.number: gpu for gpu in gpus}
    missing = [number for number in numbers if number not in there]
    if missing:
        names = ", ".join(f"{gpu.number} {gpu.name}" for gpu in gpus)
        there_is = f"this host has: {names}" if gpus else f"torch {version} sees none"
        raise DeployError(
            f"DEVICE_IDS={','.join(map(str, numbers))}: there is no GPU {missing[0]} ({there_is})",
            "name some of those" if gpus else "leave DEVICE_IDS out to serve on the CPU, or see docs/gpu.md",
        )
    return [there[number] for number in numbers]
