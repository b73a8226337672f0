"""An exported model, loaded and run: [slow, fast] -> scores.

One `Runtime` a worker. Needs neither pytorchvideo nor torchvision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from .host import mismatch
from .manifest import Form, Manifest
from .spec import STEPS_PER_LEVEL, ClipSpec
from .transform import pack

logger = logging.getLogger(__name__)

Scores = npt.NDArray[np.float32]
Module = Callable[[list[torch.Tensor]], torch.Tensor]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

# The profiling executor of TorchScript runs a graph twice before it settles on an optimised one.
_WARM_UP_RUNS = 3

_GPU_BATCH = 8
"""Clips that a GPU is given at once where the form takes any number."""


class Runtime:
    """A model on its device.

    Args:
        directory: the unpacked archive.
        manifest: what is in it; the first of its forms that this host can run is loaded.
        device: ``cpu``, ``cuda``, or one GPU (``cuda:1``).

    Raises:
        RuntimeError: no form runs on this device.
    """

    def __init__(self, directory: Path, manifest: Manifest, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.spec: ClipSpec = manifest.spec
        self.passed_over: list[str] = []
        """Forms that would have been preferred, each with the reason why it is not served."""
        for form in manifest.forms:
            reason = self._cannot_run(form)
            if reason is None:
                break
            self.passed_over.append(f"{form.runtime} {form.precision}: {reason}")
            logger.warning("%s %s is not served: %s", form.runtime, form.precision, reason)
        else:
            raise RuntimeError(
                f"No form of {manifest.name} runs on {self.device}: {'; '.join(self.passed_over)}. "
                "Build the archive on a host like this one, or with RUNTIME=torchscript PRECISION=fp32."
            )
        self.form = form
        self.dtype = DTYPES[form.precision]
        self._module = _LOADERS[form.runtime](directory / form.artifact, self.device)

    def _cannot_run(self, form: Form) -> str | None:
        """Why a form cannot run here; None where it can."""
        if form.precision != "fp32" and self.device.type == "cpu":
            return "a CPU runs half precision tens of times slower than fp32"
        if not form.built_on:
            return None
        if form.device != self.device.type:
            return f"it was compiled for {form.device}, and this is {self.device.type}"
        return mismatch(form.built_on, self.device)

    @property
    def max_batch(self) -> int:
        """Clips worth running together: on a CPU one clip fills all cores, so more would only wait."""
        return self.form.batch or (1 if self.device.type == "cpu" else _GPU_BATCH)

    def transform(self, frames: Sequence[npt.NDArray[np.int16]]) -> list[torch.Tensor]:
        """Clips int16 [T, H, W, 3] each -> one batch ``[slow, fast]`` on the device."""
        return pack(torch.from_numpy(np.stack(frames)), self.spec, self.device, self.dtype)

    @torch.inference_mode()
    def scores(self, pathways: list[torch.Tensor]) -> Scores:
        """``[slow [B, 3, T/alpha, H, W], fast [B, 3, T, H, W]]`` -> probabilities float32 [B, classes]."""
        if self.form.batch is None:
            logits = self._module(pathways)
        else:
            parts = zip(*(torch.split(pathway, self.form.batch) for pathway in pathways), strict=True)
            logits = torch.cat([self._module(list(part)) for part in parts])
        probabilities: Scores = torch.softmax(logits.float(), dim=1).cpu().numpy()
        return probabilities

    def warm_up(self) -> None:
        """Run the model until it is as fast as it gets, on grey clips of each batch size that will be used."""
        side, count = self.spec.crop, self.spec.num_frames
        clip = np.full((count, side, side, 3), 114 * STEPS_PER_LEVEL, dtype=np.int16)
        for batch in sorted({1, self.max_batch}):
            for _ in range(_WARM_UP_RUNS):
                self.scores(self.transform([clip] * batch))


def _load_torchscript(path: Path, device: torch.device) -> Module:
    module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    module.eval()
    if device.type == "cpu":
        # Weights in oneDNN's own layout; a matter of this machine, so done at load and not at export.
        module = torch.jit.optimize_for_inference(module)
    return cast(Module, module)


def _load_aoti(path: Path, device: torch.device) -> Module:
    return cast(Module, torch._inductor.aoti_load_package(str(path), device_index=device.index or -1))


_LOADERS: dict[str, Callable[[Path, torch.device], Module]] = {
    "torchscript": _load_torchscript,
    "aoti": _load_aoti,
}
