"""The artifacts in which a model is exported: files that run without pytorchvideo.

    network -> trunk: a file for each artifact, pathways -> the last feature maps
            -> head: one file for all, maps -> logits, embedding, explanation (`actionrec.head`)

Every artifact is called with one list, ``[slow, fast]`` or ``[frames]``: a tensor [B, 3, t, H, W] of its own
floating type for each t of `ClipSpec.pathways`, for any B. It takes a new list for every call: pytorchvideo's
layers overwrite the one they are given. ``model.pt``, which users load on their own, has the head behind the
trunk: ``loaded([slow, fast])`` gives logits [B, classes], and ``loaded.trunk`` gives maps.
`actionrec.model.loaders` has the other half: a loader for each artifact.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from actionrec.errors import first_line
from actionrec.manifest import Artifact
from actionrec.model.head import TorchHead
from actionrec.model.host import arithmetic, fingerprint, has_fast, why_slow
from actionrec.model.runtime import DTYPES
from actionrec.model.tensorrt import version as tensorrt_version
from actionrec.model.transform import LAYOUT, pack
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from . import tensorrt
from .errors import ExportError
from .fold import fold
from .quantise.choose import Quantising, quantise
from .reproducible import without_paths
from .rewrite import rewrite
from .split import split

TRACE_BATCH = 2
MOST_BATCH = 64
"""Clips of a batch that an artifact for a GPU takes."""


@dataclass(frozen=True)
class Target:
    """What an export is for."""

    runtime: str
    """A key of `EXPORTERS`."""
    precision: str
    """A key of `DTYPES`: ``fp32``, ``tf32``, ``fp16``, ``bf16`` or ``int8``."""
    device: str
    """``cpu`` or ``cuda``."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs, and but for int8 of the weights."""
        return DTYPES[self.precision]


def choose_targets(runtime: str, precision: str, device: str, *, fallback: bool) -> tuple[Target, ...]:
    """Settle what was left to ``auto``, and refuse what cannot work here.

    Args:
        runtime: a key of `EXPORTERS`, or ``auto``: the fastest artifact that this host can build.
        precision: ``auto`` (fp32 on a CPU, fp16 on CUDA), ``fp32``, ``tf32``, ``fp16``, ``bf16`` or ``int8``.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        fallback: put the portable artifact into the archive too, for hosts that are not like this one.

    Returns:
        Best first; where two are compiled for a GPU, `race` has the last word.

    Raises:
        ExportError: unknown, or not possible on this machine.
    """
    if runtime not in (AUTO, *EXPORTERS):
        raise ExportError(f"RUNTIME={runtime} is not known", f"There are {', '.join((AUTO, *EXPORTERS))}.")
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
    if runtime == TENSORRT:
        if device == "cpu":
            raise ExportError("RUNTIME=tensorrt is for GPUs", "Use RUNTIME=aoti, or DEVICE=cuda with a GPU.")
        tensorrt.check_installed()
    if precision == "auto":
        precision = "fp16" if device == "cuda" else "fp32"
    if not has_fast(precision, device):
        raise ExportError(
            f"PRECISION={precision} is refused: {why_slow(precision, device)}",
            "Use PRECISION=fp32, or DEVICE=cuda on a machine with such a GPU.",
        )
    best = Target(AOTI if runtime == AUTO else runtime, precision, device)
    # What runs on any CPU runs in fp32; and torch has no average pool for halves there, uncompiled.
    portable = Target(PORTABLE, "fp32" if device == "cpu" else precision, device)
    if best.runtime == PORTABLE and best != portable:
        raise ExportError(
            f"PRECISION={precision} with RUNTIME=torchscript is not possible on a CPU",
            "Use RUNTIME=aoti, which has an fp32 artifact for other hosts beside it, or PRECISION=fp32.",
        )
    targets = [best]
    if runtime == AUTO and device == "cuda" and tensorrt.is_installed():
        targets.append(Target(TENSORRT, precision, device))  # which of the two is faster, `race` finds out
    return tuple(dict.fromkeys((*targets, portable) if fallback or runtime == AUTO else targets))


def export(
    model: nn.Module, spec: ClipSpec, target: Target, directory: Path, quantising: Quantising | None = None
) -> Artifact:
    """Write the exported artifact of a model, and its head (`HEAD_FILE`), which is the same for all of them.

    Args:
        model: float32, on the CPU, in evaluation mode; left as it is.
        spec: what it eats.
        target: artifact, precision and device.
        directory: where to.
        quantising: how int8 is made; None: as close as by default, on generated clips, without a word.

    Returns:
        What was written, for the manifest; its parity is not known yet.

    Raises:
        ExportError: this host cannot build that artifact, or the network has no linear head.
    """
    trunk, head = split(model, spec)
    head.save(directory)
    torch_head = TorchHead(head).to(target.device)
    report: Mapping[str, object] = {}
    if target.precision == INT8:
        bytes_trunk, report = quantise(trunk, torch_head, spec, quantising or Quantising.default(spec))
        net = WithHead(bytes_trunk, torch_head)
    else:
        net = WithHead(prepared(trunk, spec, target), torch_head)
    # A trace remembers for each convolution whether it may use TF32, and whether cuDNN tries all its kernels.
    with arithmetic(target.precision):
        artifact = EXPORTERS[target.runtime](net, spec, target, directory)
    return replace(artifact, quantisation=report)


@torch.no_grad()
def prepared(model: nn.Module, spec: ClipSpec, target: Target) -> nn.Module:
    """A copy of a float32 model in evaluation mode, with the target's layers and types, on its device."""
    net = copy.deepcopy(model)
    if target.runtime != PORTABLE:
        rewrite(net, target.device)
    if target.dtype != torch.float32:
        # torch would fold it in half precision. In float32 it is a matter of the compiler.
        fold(net, spec)
    net = net.to(target.device, target.dtype)
    if target.device == "cuda" and target.runtime != TENSORRT:  # which lays out weights by itself
        # As frames lie. Weights that lie so too carry the layout through all layers: cuDNN's kernels for the
        # tensor cores read it, and would otherwise transpose what they read.
        net = net.to(memory_format=LAYOUT)
    return net


class WithHead(nn.Module):
    """A trunk and the head behind it, which is what ``model.pt`` is."""

    def __init__(self, trunk: nn.Module, head: TorchHead) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, pathways: list[Tensor]) -> Tensor:
        """Pathways -> logits [B, classes]."""
        logits: Tensor = self.head(self.trunk(pathways))
        return logits


@torch.no_grad()
def _torchscript(net: WithHead, spec: ClipSpec, target: Target, directory: Path) -> Artifact:
    # A tuple around the list: traced with the bare list, the model would be called with a tensor a pathway.
    # No check_trace: the parity check that follows is the better one. Not frozen: so trunk and head can be
    # told apart, and the weights keep their names; the loader freezes the trunk.
    example = _example(spec, target, TRACE_BATCH)
    buffer = io.BytesIO()
    with _errors_of_torch(target):
        traced = torch.jit.trace(net.trunk, (example,), check_trace=False)  # type: ignore[no-untyped-call]
        whole = torch.jit.trace(WithHead(traced, net.head).eval(), (example,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(whole, buffer)
    path = directory / "model.pt"
    path.write_bytes(without_paths(buffer))  # a full disk is an OSError here, and a RuntimeError from torch
    return Artifact(target.runtime, target.precision, target.device, path.name)


@torch.no_grad()
def _aoti(net: WithHead, spec: ClipSpec, target: Target, directory: Path) -> Artifact:
    program, batch = _program(net.trunk, spec, target)
    path = directory / "model.pt2"
    with _errors_of_torch(target):
        # Freezing folds BatchNorm and lays the weights out for the matrix kernels. A GPU's kernels would be
        # files that a worker reads when it first needs them, so its unpacked package would have to stay.
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs={"freezing": True, "aot_inductor.embed_kernel_binary": target.device == "cuda"},
        )
    built_on = fingerprint(target.device)
    return Artifact(target.runtime, target.precision, target.device, path.name, batch, built_on)


@torch.no_grad()
def _compile(net: WithHead, spec: ClipSpec, target: Target, directory: Path) -> Artifact:
    program, batch = _program(net.trunk, spec, target)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where on this disk its code stands
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path = directory / "model.program.pt2"
    path.write_bytes(buffer.getbuffer())
    return Artifact(target.runtime, target.precision, target.device, path.name, batch)


@torch.no_grad()
def _tensorrt(net: WithHead, spec: ClipSpec, target: Target, directory: Path) -> Artifact:
    program, batch = _program(net.trunk, spec, target)
    path = directory / "model.plan"
    with _errors_of_torch(target):
        example = _example(spec, target, TRACE_BATCH)
        plan = tensorrt.plan(program, example, target.precision, directory / "tensorrt-times")
    path.write_bytes(plan)
    built_on = {**fingerprint(target.device), "tensorrt": tensorrt_version()}
    return Artifact(target.runtime, target.precision, target.device, path.name, batch, built_on)


def _program(
    trunk: nn.Module, spec: ClipSpec, target: Target
) -> tuple[torch.export.ExportedProgram, int | None]:
    """The trunk as a graph, and the batch size that it is for (None: any)."""
    if target.device == "cpu":
        # One clip: it fills a CPU's cores already, and a fixed size lets the weights be packed for it.
        with _errors_of_torch(target):
            return torch.export.export(trunk, (_example(spec, target, 1),)), 1
    batch = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    example = _example(spec, target, TRACE_BATCH)
    with _errors_of_torch(target):
        return torch.export.export(trunk, (example,), dynamic_shapes=([{0: batch}] * len(example),)), None


@contextmanager
def _errors_of_torch(target: Target) -> Iterator[None]:
    """Turn whatever torch's exporters and the compiler's tool chain raise into an `ExportError`.

    A full disk stays an OSError. One without a number is torch's own: CUDA_HOME is not set.
    """
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        hint = compiler_hint(target.device)
        if target.runtime in (PORTABLE, TENSORRT):
            hint = "Report the model that does this."
        message = f"RUNTIME={target.runtime} could not be compiled here: {first_line(error)}"
        raise ExportError(message, hint) from error


def compiler_hint(device: str) -> str:
    """What compiling for a device, ``cpu`` or ``cuda``, needs on this host."""
    needs = "a C++ compiler (apt-get install g++)"
    if device == "cuda":
        needs += (
            ", CUDA's headers (the toolkit of torch's CUDA version; CUDA_HOME names the folder with "
            "include/cuda.h) and Python.h (apt-get install python3-dev)"
        )
    return f"Compiling needs {needs}; RUNTIME=torchscript does not."


def _example(spec: ClipSpec, target: Target, batch: int) -> list[torch.Tensor]:
    """The pathways of black clips."""
    frames = torch.zeros(batch, spec.num_frames, spec.crop, spec.crop, 3, dtype=torch.int16)
    pathways = pack(frames, spec, target.device, target.dtype)
    # TensorRT takes its inputs as they lie without a layout.
    return [each.contiguous() for each in pathways] if target.runtime == TENSORRT else pathways


Exporter = Callable[[WithHead, ClipSpec, Target, Path], Artifact]
"""Writes a model whose trunk is on the target's device, of its type and in evaluation mode into a folder."""

INT8 = "int8"
AUTO, AOTI, COMPILE, MAX_AUTOTUNE, PORTABLE = "auto", "aoti", "compile", "compile-max-autotune", "torchscript"
TENSORRT = "tensorrt"

EXPORTERS: dict[str, Exporter] = {
    PORTABLE: _torchscript,
    AOTI: _aoti,
    COMPILE: _compile,
    MAX_AUTOTUNE: _compile,
    TENSORRT: _tensorrt,
}
"""By the name that RUNTIME gives."""
