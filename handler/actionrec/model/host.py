"""What this machine is to compiled code: a model compiled on one host may crash, or be wrong, on another."""

from __future__ import annotations

import ctypes
import logging
import platform
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import tensorrt

logger = logging.getLogger(__name__)

# Instruction sets that a compiler told to use the machine it runs on may use (x86; ARM's are in `Features`).
_ISA_PREFIXES = tuple(
    "sse ssse avx amx fma f16c bmi aes vaes gfni sha abm adx movbe popcnt pclmulqdq vpclmulqdq "
    "asimd sve bf16 i8mm fphp".split()
)

# glibc's names of what `mallopt` sets, and a size that no tensor of a clip comes near.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _ONE_GB = -1, -3, 1 << 30


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees for its next tensors. For a process that does nothing else.

    glibc gives each block of more than 32 MB back to the kernel when it is freed. A model on a CPU frees its
    activations layer by layer, and each clip costs page faults: with a SlowFast R50 40,000, a tenth of the time
    (benchmarks/process.py). What is kept is a clip's activations. Another C library ignores this.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _ONE_GB)
        mallopt(_M_TRIM_THRESHOLD, _ONE_GB)


def device_of_worker(gpu: int | str | None) -> str:
    """Where a worker's model runs; a log line says why where that is the CPU of a host with a GPU.

    Args:
        gpu: the number of the GPU that the server gives to the worker; None: none.

    Returns:
        ``cuda:<gpu>`` or ``cpu``.
    """
    seen = torch.cuda.is_available()
    if seen and gpu is not None:
        return f"cuda:{gpu}"
    if seen:
        logger.warning(
            "The CPU is used, not a GPU: torch sees %d, and the server gives this worker none. TorchServe "
            "counts GPUs in CUDA_VISIBLE_DEVICES, else with nvidia-smi; its number_of_gpu can only lower that.",
            torch.cuda.device_count(),
        )
    elif gpu is not None:
        logger.warning(
            "The CPU is used, not a GPU: the server gives this worker GPU %s, and torch %s sees none. Its "
            "driver may be too old, or CUDA_VISIBLE_DEVICES empty.",
            gpu,
            torch.__version__,
        )
    return "cpu"


def fingerprint(device: torch.device | str) -> dict[str, Any]:
    """What compiled code for this device depends on, as plain values.

    Returns:
        ``torch``: its version; ``machine`` and ``instruction_sets``: the CPU's; on CUDA also ``gpu``
        (``sm_90``) and ``cuda``.
    """
    device = torch.device(device)
    host = {
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "instruction_sets": sorted(_instruction_sets()),
    }
    if device.type != "cuda":
        return host
    # What starts a GPU's kernels is compiled for the CPU of the host that it was built on.
    major, minor = torch.cuda.get_device_capability(device)
    return {**host, "gpu": f"sm_{major}{minor}", "cuda": torch.version.cuda}


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Have GPUs multiply float32 numbers inside the block as a precision says, with their fastest kernels.

    torch leaves TF32, which keeps 11 of the 24 bits of each factor, on for convolutions and off for matrices.
    Inside, both are on for ``tf32`` and off for all others. cuDNN tries all its kernels for a new shape, and
    keeps the fastest: `cuda.BATCHES` are the few shapes that there are, and warming up meets each of them.
    For the whole process; as it was, once no block of any thread is left.
    """
    tf32 = precision == "tf32"
    wanted = _Flags(tf32, tf32, True)
    with _changing:
        if not _flags:
            _flags.append(_Flags.now())
        _flags.append(wanted)
        wanted.set()
    try:
        yield
    finally:
        with _changing:
            _flags[:] = [each for each in _flags if each is not wanted]
            _flags[-1].set()
            if len(_flags) == 1:
                _flags.clear()


@dataclass(frozen=True)
class _Flags:
    """torch's settings of a process: TF32 in convolutions and in matrices, and trying cuDNN's kernels."""

    convolutions: bool
    matrices: bool
    benchmark: bool

    @classmethod
    def now(cls) -> _Flags:
        cudnn = torch.backends.cudnn
        return cls(cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, cudnn.benchmark)

    def set(self) -> None:
        torch.backends.cudnn.allow_tf32 = self.convolutions
        torch.backends.cuda.matmul.allow_tf32 = self.matrices
        torch.backends.cudnn.benchmark = self.benchmark


_changing = threading.Lock()
_flags: list[_Flags] = []
"""As they were before any block, then those of the blocks that are open; the last ones hold."""


def has_fast(precision: str, device: torch.device | str) -> bool:
    """Whether a device has instructions for a precision. Without them half precision is tens of times slower
    than fp32, and there is no tf32.

    Args:
        precision: ``fp32``, ``tf32``, ``fp16``, ``bf16`` or ``int8``.
        device: ``cpu``, ``cuda``, or one GPU.
    """
    if precision == "fp32":
        return True
    device = torch.device(device)
    if device.type == "cuda":
        # fp16 has tensor cores since Volta (7.0), bf16 and tf32 since Ampere (8.0).
        least = (7, 0) if precision == "fp16" else (8, 0)
        return precision != "int8" and torch.cuda.get_device_capability(device) >= least
    sets = _instruction_sets()
    if precision == "int8":
        return bool(sets & {"avx512_vnni", "avx_vnni", "amx_int8"})
    if precision == "bf16":
        return bool(sets & {"avx512_bf16", "amx_bf16", "bf16"})
    return precision == "fp16" and bool(sets & {"amx_fp16"})


def why_slow(precision: str, device: torch.device | str) -> str:
    """What to say of a device where `has_fast` is false."""
    kind = torch.device(device).type
    if precision == "tf32":
        return f"this {kind} has no tf32, which NVIDIA's GPUs have since Ampere (A100, RTX 30)"
    if precision == "int8":
        needs = "is for CPUs with instructions for it (VNNI, AMX)" if kind == "cpu" else "is for CPUs"
        return f"{precision} {needs}"
    return f"this {kind} runs {precision} far slower than fp32"


def mismatch(built_on: Mapping[str, Any], device: torch.device | str) -> str | None:
    """Why code that was compiled on another host cannot run here; None where it can.

    A host with more instruction sets than the one it was built on runs it as well.
    """
    here = fingerprint(device)
    if "tensorrt" in built_on:  # code that is TensorRT's own is for one version of it
        here["tensorrt"] = tensorrt.version()
    for key in sorted({*built_on, *here}):
        built, found = built_on.get(key), here.get(key)
        if key == "instruction_sets":
            if missing := sorted(set(built or ()) - set(found or ())):
                return f"this CPU lacks {', '.join(missing[:6])}, which it was compiled to use"
        elif built != found:
            return f"it was compiled for {key} {built}, and this host has {found or 'none'}"
    return None


def _instruction_sets() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux: torch's own name for the widest vectors is all there is
        return {torch.backends.cpu.get_cpu_capability()}
    flags = next(
        (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), []
    )
    return {flag for flag in flags if flag.startswith(_ISA_PREFIXES)}
