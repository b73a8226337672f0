"""Plans of TensorRT's, built by torch-tensorrt; `actionrec.model.tensorrt` runs them.

The package is the extra ``tensorrt``. Its largest part, NVIDIA's libraries, is fetched from NVIDIA's own index.
**Nothing here has built a plan on a GPU yet.** With a TensorRT that is played, torch-tensorrt 2.14.0 takes the
programs of all models to the end, and has a converter for every layer.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from actionrec.errors import first_line
from actionrec.model.cuda import BATCHES
from actionrec.model.tensorrt import INPUT, OUTPUT
from torch import Tensor

from .errors import ExportError

PACKAGE = "torch_tensorrt"


def is_installed() -> bool:
    """Whether torch-tensorrt is there; whether it can be imported shows when it is used."""
    return importlib.util.find_spec(PACKAGE) is not None


def check_installed() -> None:
    """Refuse what needs torch-tensorrt, where it is missing.

    Raises:
        ExportError: it is; an ImportError is its cause.
    """
    if not is_installed():
        missing = ImportError(f"No module named {PACKAGE!r}")
        raise _lacking(missing) from missing


def plan(
    program: torch.export.ExportedProgram, examples: Sequence[Tensor], precision: str, cache: Path
) -> bytes:
    """Compile a trunk for this GPU, with kernels chosen for each batch size that a GPU runs (`BATCHES`).

    Args:
        program: the trunk, on the GPU, of the precision's type; takes a list of pathways of any batch size.
        examples: pathways of some batch, [B, 3, t, H, W].
        precision: ``fp32``, ``tf32``, ``fp16`` or ``bf16``. TensorRT keeps to the program's types, and rounds
            float32's factors to TF32 or does not.
        cache: a file, which it may leave behind, for the times of kernels that it has tried.

    Raises:
        ExportError: torch-tensorrt cannot be imported.
        Exception: whatever torch-tensorrt raises.
    """
    package = _package()
    inputs = [
        package.Input(profiles=[_profile(batch, each) for batch in BATCHES], dtype=each.dtype)
        for each in examples
    ]
    names = [f"{INPUT}{number}" for number in range(len(inputs))]
    built: bytes = package.dynamo.convert_exported_program_to_serialized_trt_engine(
        program,
        arg_inputs=(inputs,),
        arg_input_binding_names=(names,),
        output_binding_names=tuple(name.replace(INPUT, OUTPUT) for name in names),
        disable_tf32=precision != "tf32",
        # By default a file in the folder for temporary files whose name anybody can guess.
        timing_cache_path=str(cache),
    )
    return bytes(built)


def _profile(batch: int, example: Tensor) -> dict[str, tuple[int, ...]]:
    """An optimisation profile for one batch size."""
    return dict.fromkeys(("min_shape", "opt_shape", "max_shape"), (batch, *example.shape[1:]))


def _package() -> ModuleType:
    try:
        return importlib.import_module(PACKAGE)
    # Where NVIDIA's libraries are missing, it raises a plain Exception.
    except Exception as error:
        raise _lacking(error) from (error if isinstance(error, ImportError) else ImportError(str(error)))


def _lacking(error: Exception) -> ExportError:
    return ExportError(
        f"RUNTIME=tensorrt needs torch-tensorrt, which cannot be used here: {first_line(error)}",
        "pip install '.[tensorrt]', where NVIDIA's index can be reached; RUNTIME=aoti needs neither.",
    )
