"""The exported artifacts of a model, each with its way of being loaded. `export.artifacts` writes them.

An artifact is a network without its head: it ends with the last feature maps, one a pathway.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import torch

from ..errors import first_line
from . import int8
from .host import fingerprint
from .tensorrt import Plan
from .transform import LAYOUT

logger = logging.getLogger(__name__)

Trunk = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
"""The pathways, float [B, 3, t, H, W] each -> their last feature maps, float [B, C, t, h, w] each. May
overwrite the list it is given."""

Loader = Callable[[Path, torch.device], Trunk]
"""(artifact, device) -> the model on the device."""


def _load_torchscript(path: Path, device: torch.device) -> Trunk:
    whole: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    # The file is the network with its head, for whoever loads it without this package.
    trunk = torch.jit.freeze(whole.trunk.eval())
    if device.type == "cpu":
        # Weights in oneDNN's own layout; a matter of this machine, so done at load and not at export.
        trunk = torch.jit.optimize_for_inference(trunk)
    return cast(Trunk, trunk)


def _load_aoti(path: Path, device: torch.device) -> Trunk:
    # What torch._inductor.aoti_load_package makes, without importing torch's compiler (a second and 150 MB for
    # each worker) and without trying out the C++ compiler on a new host (pytorch/pytorch#191715).
    # On a GPU for one thread, which is all that a worker has: the events by which threads would wait for each
    # other cannot be asked for while a graph is captured.
    one_thread, index = (False, -1) if device.type == "cpu" else (True, device.index or 0)
    with _removed_temporary_files():
        package = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", one_thread, 1, index)

    def run(pathways: list[torch.Tensor]) -> list[torch.Tensor]:
        # The code reads memory as it lay when it was exported, and checks nothing: other strides give wrong
        # scores. A tensor that lies so already is not copied.
        for index, pathway in enumerate(pathways):
            pathways[index] = pathway.contiguous(memory_format=LAYOUT)
        before = _out_of_memory_errors(device)
        try:
            # Boxed: the list is emptied, and an input is freed as soon as it has been read.
            maps: list[torch.Tensor] = package.boxed_run(pathways)
        except RuntimeError as error:
            # Out of compiled code every error comes as a RuntimeError with some text. The allocator knows more.
            if _out_of_memory_errors(device) > before:
                raise torch.OutOfMemoryError(first_line(error)) from error
            raise
        return maps

    return run


def _out_of_memory_errors(device: torch.device) -> int:
    """How often torch has found no memory on a GPU, in this process; 0 for a CPU."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.memory_stats_as_nested_dict(device).get("num_ooms", 0))


@contextmanager
def _removed_temporary_files() -> Iterator[None]:
    """Have no temporary file of the block stay behind.

    A package is unpacked into a temporary folder, which only a process that ends of its own accord removes.
    Workers are killed: each would leave 140 MB with a SlowFast R50.
    """
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="aoti-") as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def _load_compile(path: Path, device: torch.device, mode: str | None = None) -> Trunk:
    """torch.compile at the first call. That takes a minute; a restart finds the compiled code in the cache and
    only traces the graph again.

    Args:
        path: the artifact.
        device: where it runs.
        mode: torch.compile's; None: its default.
    """
    # Imported here: a worker with another artifact does without them.
    from torch._inductor import config as inductor_config
    from torch.export.passes import move_to_device_pass

    int8.register()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_compile_cache(device))
    program = torch.export.load(path)
    if device.type == "cuda":
        program = move_to_device_pass(program, device)
    # Freezing folds BatchNorm and lays the weights out for the matrix kernels. For the whole process: as an
    # option of torch.compile it reaches the code generator only, and the graph still takes weights as inputs.
    inductor_config.freezing = True
    # A CPU is given one clip at a time; a GPU any number, each of which would be compiled anew.
    dynamic = False if device.type == "cpu" else None
    compiled = torch.compile(program.module(), dynamic=dynamic, mode=mode)
    return cast(Trunk, compiled)


def _compile_cache(device: torch.device) -> Path:
    """Where compiled code is kept from one start to the next: a folder for each kind of host.

    It holds code that will be run, so nobody else may write to it.
    """
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    host = json.dumps(fingerprint(device), sort_keys=True)
    folder = Path(home) / "actionrec" / "inductor" / hashlib.sha256(host.encode()).hexdigest()[:16]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid() or folder.stat().st_mode & 0o022:
            raise PermissionError(f"{folder} can be written by others")
    except OSError as error:
        logger.warning("Compiled code is not kept for the next start: %s", error)
        return Path(tempfile.mkdtemp(prefix="inductor-"))
    return folder


LOADERS: dict[str, Loader] = {
    "torchscript": _load_torchscript,
    "aoti": _load_aoti,
    "compile": _load_compile,
    "tensorrt": Plan,
    # Without torch's own graphs: `cuda.Graphs` captures the whole way of a batch.
    "compile-max-autotune": partial(_load_compile, mode="max-autotune-no-cudagraphs"),
}
"""By the runtime's name."""
