"""The forms in which a model is exported: files that run without pytorchvideo.

Every form is called as ``loaded([slow, fast])`` with [B, 3, T / alpha, H, W] and [B, 3, T, H, W] of its own
floating type, for any B, and gives logits [B, classes]. It takes a new list for every call: pytorchvideo's
layers overwrite the one they are given. `actionrec.runtime` has the other half: a loader for each form.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from actionrec.runtime import DTYPES
from actionrec.spec import ClipSpec
from actionrec.transform import pack
from torch import nn

from .errors import ExportError

TRACE_BATCH = 2


@dataclass(frozen=True)
class Target:
    """What an export is for."""

    runtime: str
    """A key of `FORMS`."""
    precision: str
    """``fp32`` or ``fp16``."""
    device: str
    """``cpu`` or ``cuda``."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and the weights."""
        return DTYPES[self.precision]


@dataclass(frozen=True)
class Form:
    """One exported form."""

    file_name: str
    write: Callable[[nn.Module, ClipSpec, Target, Path], None]
    """Write a model to a file; it is on the target's device, of its type and in evaluation mode."""


def choose_target(runtime: str, precision: str, device: str) -> Target:
    """Settle what was left to ``auto``, and refuse what cannot work here.

    Args:
        runtime: a key of `FORMS`.
        precision: ``auto`` (fp32 on a CPU, fp16 on CUDA), ``fp32`` or ``fp16``.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ExportError: unknown, or not possible on this machine.
    """
    if runtime not in FORMS:
        raise ExportError(f"RUNTIME={runtime} is not known", f"There is {', '.join(FORMS)}.")
    if device not in ("auto", "cpu", "cuda"):
        raise ExportError(f"DEVICE={device} is not known", "There are auto, cpu and cuda.")
    if precision not in ("auto", *DTYPES):
        raise ExportError(f"PRECISION={precision} is not known", f"There are auto, {', '.join(DTYPES)}.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ExportError(
            "DEVICE=cuda, but torch sees no GPU here", "Build with DEVICE=cpu, or on the machine with the GPU."
        )
    if precision == "auto":
        precision = "fp16" if device == "cuda" else "fp32"
    if device == "cpu" and precision == "fp16":
        raise ExportError(
            "PRECISION=fp16 is refused on a CPU: without AVX512-FP16 or AMX it is tens of times slower",
            "Use PRECISION=fp32, or DEVICE=cuda on a machine with a GPU.",
        )
    return Target(runtime=runtime, precision=precision, device=device)


def export(model: nn.Module, spec: ClipSpec, target: Target, directory: Path) -> Path:
    """Write the exported form of a model.

    Args:
        model: float32, on the CPU, in evaluation mode; left as it is.
        spec: what it eats.
        target: form, precision and device.
        directory: where to.

    Returns:
        The file written.
    """
    form = FORMS[target.runtime]
    path = directory / form.file_name
    form.write(copy.deepcopy(model).to(target.device, target.dtype), spec, target, path)
    return path


@torch.no_grad()
def _write_torchscript(model: nn.Module, spec: ClipSpec, target: Target, path: Path) -> None:
    frames = torch.zeros(TRACE_BATCH, spec.num_frames, spec.crop, spec.crop, 3, dtype=torch.int16)
    example = pack(frames, spec, target.device, target.dtype)
    # A tuple around the list: traced with the bare list, the model would be called as f(slow, fast).
    # No check_trace: the parity check that follows is the better one.
    traced = torch.jit.trace(model, (example,), check_trace=False)  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.freeze(traced), buffer)
    path.write_bytes(buffer.getbuffer())  # a full disk is an OSError here, and a RuntimeError from torch


FORMS = {"torchscript": Form("model.pt", _write_torchscript)}
"""By the name that RUNTIME gives."""
