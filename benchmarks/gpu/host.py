"""The machine, by what it says of itself: a process that looks at the GPU and ends."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.apart import PROJECT
from benchmarks.gpu.child import serve
from benchmarks.measure import machine

_SOURCES = "handler", "export", "motion", "deploy", "benchmarks"
_PACKAGES = "torchserve", "torch-model-archiver", "triton", "torch-tensorrt", "tensorrt", "nvidia-cudnn-cu13"


def describe() -> dict[str, Any]:
    """The machine and its versions, what a compiler finds, and each GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    home = os.environ.get("CUDA_HOME", "")
    return {
        "machine": machine(),
        "gpus": [_gpu(index) for index in range(count)],
        "packages": {name: _version(name) for name in _PACKAGES},
        "compilers": {name: shutil.which(name) for name in ("g++", "nvcc", "java", "nvidia-smi")},
        "cuda_h": str(Path(home, "include", "cuda.h")) if Path(home, "include", "cuda.h").is_file() else None,
        "python_h": Path(sysconfig.get_path("include"), "Python.h").is_file(),
        "java_home": os.environ.get("JAVA_HOME"),
        "executable": sys.executable,
        "platform": platform.platform(),
    }


def identity(host: dict[str, Any]) -> dict[str, Any]:
    """What figures depend on: the code, the GPUs or processor, and torch."""
    sources = sorted(path for room in _SOURCES for path in (PROJECT / room).rglob("*.py"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return {
        "code": digest.hexdigest()[:16],
        "on": [gpu["name"] for gpu in host["gpus"]] or [host["machine"]["cpu"]],
        "torch": host["machine"]["versions"]["torch"],
    }


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "capability": f"sm_{properties.major}{properties.minor}",
        "memory_gb": properties.total_memory / 1e9,
        "processors": properties.multi_processor_count,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    serve({"describe": describe})
