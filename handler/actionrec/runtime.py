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

from .manifest import Manifest
from .spec import STEPS_PER_LEVEL, ClipSpec
from .transform import pack

logger = logging.getLogger(__name__)

Scores = npt.NDArray[np.float32]
Module = Callable[[list[torch.Tensor]], torch.Tensor]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

# The profiling executor of TorchScript runs a graph twice before it settles on an optimised one.
_WARM_UP_RUNS = 3


class Runtime:
    """A model on its device.

    Args:
        directory: the unpacked archive.
        manifest: what is in it.
        device: ``cpu``, ``cuda``, or one GPU (``cuda:1``).

    Raises:
        RuntimeError: the model cannot be loaded or does not run on this device.
    """

    def __init__(self, directory: Path, manifest: Manifest, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.spec: ClipSpec = manifest.spec
        self.dtype = DTYPES[manifest.precision]
        if self.device.type == "cpu" and self.dtype is not torch.float32:
            raise RuntimeError(
                f"The archive is {manifest.precision}, which a CPU runs tens of times slower than fp32: "
                "serve it on a GPU, or build it again with PRECISION=fp32."
            )
        self._module = _LOADERS[manifest.runtime](directory / manifest.artifact, self.device)

    @property
    def max_batch(self) -> int:
        """Clips worth running together: on a CPU one clip fills all cores, so more would only wait."""
        return 1 if self.device.type == "cpu" else 8

    def transform(self, frames: Sequence[npt.NDArray[np.int16]]) -> list[torch.Tensor]:
        """Clips int16 [T, H, W, 3] each -> one batch ``[slow, fast]`` on the device."""
        return pack(torch.from_numpy(np.stack(frames)), self.spec, self.device, self.dtype)

    @torch.inference_mode()
    def scores(self, pathways: list[torch.Tensor]) -> Scores:
        """``[slow [B, 3, T/alpha, H, W], fast [B, 3, T, H, W]]`` -> probabilities float32 [B, classes]."""
        logits = self._module(pathways)
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


_LOADERS: dict[str, Callable[[Path, torch.device], Module]] = {"torchscript": _load_torchscript}
