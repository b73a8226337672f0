"""The model as torch runs it, with what is called of a `Runtime`: what every runtime is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from actionrec.model.runtime import DTYPES
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from torch import Tensor, nn

Frames = npt.NDArray[np.int16]


class Computing(Protocol):
    """A batch that was started."""

    def scores(self) -> npt.NDArray[np.float32]:
        """Wait for its probabilities, float32 [B, classes]."""


class Runs(Protocol):
    """What is called of a `Runtime`. What `transform` hands over is its own matter."""

    @property
    def max_batch(self) -> int:
        """Clips worth running together."""

    @property
    def in_flight(self) -> int:
        """Batches worth starting before the scores of the first are fetched."""

    def memory(self, shape: tuple[int, ...]) -> Frames:
        """Memory for a clip, which the device copies from."""

    def transform(self, frames: Sequence[Frames]) -> object:
        """Clips int16 [T, H, W, 3] each -> one batch on the device."""

    def compute(self, prepared: object) -> Computing:
        """Start the model on what `transform` gave."""


class EagerRuntime:
    """A network, channels_last_3d.

    Args:
        net: moved to the device.
        spec: what it eats.
        precision: a key of `DTYPES`.
        device: where it runs.
    """

    max_batch = 2**16
    in_flight = 1

    def __init__(self, net: nn.Module, spec: ClipSpec, precision: str, device: torch.device) -> None:
        self._net = net.to(device, DTYPES[precision]).to(memory_format=torch.channels_last_3d)
        self._spec, self._precision, self._device = spec, precision, device

    def memory(self, shape: tuple[int, ...]) -> Frames:
        """Memory as it comes: int16, not set."""
        return np.empty(shape, np.int16)

    @torch.inference_mode()
    def transform(self, frames: Sequence[Frames]) -> list[Tensor]:
        """Clips int16 [T, H, W, 3] each -> the pathways of one batch on the device."""
        return pack(torch.from_numpy(np.stack(frames)), self._spec, self._device, DTYPES[self._precision])

    @torch.inference_mode()
    def compute(self, prepared: list[Tensor]) -> EagerScores:
        """The pathways -> probabilities."""
        tf32 = self._precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True  # as PyTorch's tuning guide has it
        pathways = [each.contiguous(memory_format=torch.channels_last_3d) for each in prepared]
        return EagerScores(self._net(pathways))


class EagerScores:
    """Logits on the device, not waited for.

    Args:
        logits: [B, classes].
    """

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    def scores(self) -> npt.NDArray[np.float32]:
        """Wait for them; probabilities float32 [B, classes]."""
        probabilities: npt.NDArray[np.float32] = self._logits.float().softmax(1).cpu().numpy()
        return probabilities
