"""An exported model, loaded and run: pathways -> scores.

One `Runtime` a worker. Needs neither pytorchvideo nor torchvision.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..errors import first_line
from ..manifest import Artifact, Manifest
from ..reply import Scores
from ..spec import STEPS_PER_LEVEL, ClipSpec
from . import cuda
from .host import has_fast, mismatch, multiplying_in, why_slow
from .loaders import LOADERS, Module
from .transform import pack

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# After the one that tries an artifact. TorchScript's profiling executor runs a graph twice before it settles
# on an optimised one; compiled code needs one more run until the memory that this process keeps is all there.
_WARM_UP_RUNS = {"torchscript": 3, "aoti": 1, "compile": 1}


class Runtime:
    """A model on its device.

    Args:
        directory: the unpacked archive.
        manifest: what is in it; the first of its artifacts that this host can run is loaded.
        device: ``cpu``, ``cuda``, or one GPU (``cuda:1``).

    Raises:
        RuntimeError: no artifact runs on this device.
    """

    def __init__(self, directory: Path, manifest: Manifest, device: torch.device | str = "cpu") -> None:
        self.device = cuda.make_current(device)
        self.spec: ClipSpec = manifest.spec
        self.rejected: list[str] = []
        """Artifacts that would have been preferred, each with the reason why it is not served."""
        self.lost: str | None = None
        """Why this process runs the model no more; None where it does."""
        for artifact in manifest.artifacts:
            reason = self._cannot_run(artifact) or self._load(artifact, directory)
            if reason is None:
                break
            self.rejected.append(f"{artifact.runtime} {artifact.precision}: {reason}")
            logger.warning("%s %s is not served: %s", artifact.runtime, artifact.precision, reason)
        else:
            raise RuntimeError(
                f"No artifact of {manifest.name} runs on {self.device}: {'; '.join(self.rejected)}. "
                "Build the archive on a host like this one, or with RUNTIME=torchscript PRECISION=fp32."
            )

    def _cannot_run(self, artifact: Artifact) -> str | None:
        """Why an artifact cannot run here; None where it can."""
        if not has_fast(artifact.precision, self.device):
            return why_slow(artifact.precision, self.device)
        if not artifact.built_on:
            return None
        if artifact.device != self.device.type:
            return f"it was compiled for {artifact.device}, and this is {self.device.type}"
        return mismatch(artifact.built_on, self.device)

    def _load(self, artifact: Artifact, directory: Path) -> str | None:
        """Load an artifact and try it on a grey clip; the reason where that fails."""
        self.artifact = artifact
        self.dtype = DTYPES[artifact.precision]
        path = directory / artifact.file
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not in the archive")
        try:
            with multiplying_in(artifact.precision):
                self._module: Module = LOADERS[artifact.runtime](path, self.device)
                if self.device.type == "cuda":
                    self._prepare_gpu()
            self._run_grey(1)
        # Whatever the compiler's tool chain, or a loader of compiled code, raises.
        except Exception as error:
            logger.exception("%s %s could not be loaded", artifact.runtime, artifact.precision)
            return first_line(error)
        return None

    @torch.inference_mode()
    def _prepare_gpu(self) -> None:
        self._upload = cuda.Uploader(self.spec, self.max_batch, self.device)
        if self.artifact.batch is None:
            self._module = cuda.Graphs(self._module, self.spec, self.dtype, self.device)

    @property
    def max_batch(self) -> int:
        """Clips worth running together: on a CPU one clip fills all cores, so more would only wait."""
        return self.artifact.batch or self._batches[-1]

    @property
    def _batches(self) -> tuple[int, ...]:
        """Batch sizes that the model is run with, where the artifact takes any."""
        return cuda.BATCHES if self.device.type == "cuda" else (1,)

    def transform(self, frames: Sequence[npt.NDArray[np.int16]]) -> list[torch.Tensor]:
        """Clips int16 [T, H, W, 3] each -> one batch on the device, a tensor for each pathway; see `pack`."""
        with self._examined():
            return self._transform(frames)

    @torch.inference_mode()
    def scores(self, pathways: list[torch.Tensor]) -> Scores:
        """What `transform` gives -> probabilities float32 [B, classes]."""
        with self._examined():
            return self._scores(pathways)

    def _transform(self, frames: Sequence[npt.NDArray[np.int16]]) -> list[torch.Tensor]:
        """The same, in halves where there is no memory for all of it."""
        try:
            return self._packed(frames)
        except torch.OutOfMemoryError:
            if len(frames) == 1:
                raise
        half = _half(len(frames))
        pairs = zip(self._transform(frames[:half]), self._transform(frames[half:]), strict=True)
        return [torch.cat(pair) for pair in pairs]

    def _scores(self, pathways: list[torch.Tensor]) -> Scores:
        """The same, in halves where there is no memory for all of it."""
        count = len(pathways[0])
        try:
            return self._probabilities(pathways)
        except torch.OutOfMemoryError:
            if count == 1:
                raise
        half = _half(count)
        parts = [pathway[:half] for pathway in pathways], [pathway[half:] for pathway in pathways]
        return np.concatenate([self._scores(part) for part in parts])

    def _packed(self, frames: Sequence[npt.NDArray[np.int16]]) -> list[torch.Tensor]:
        with cuda.current(self.device):
            if self.device.type == "cuda" and len(frames) <= self.max_batch:
                batch = self._upload(frames)
            elif len(frames) == 1:
                batch = torch.from_numpy(frames[0])[None]
            else:
                batch = torch.from_numpy(np.stack(frames))
            return pack(batch, self.spec, self.device, self.dtype)

    def _probabilities(self, pathways: list[torch.Tensor]) -> Scores:
        with cuda.current(self.device), multiplying_in(self.artifact.precision):
            # Uncompiled, a CPU takes all clips at once.
            size = self.max_batch if self.artifact.batch or self.device.type == "cuda" else len(pathways[0])
            parts = zip(*(torch.split(pathway, size) for pathway in pathways), strict=True)
            # One after the other: logits are valid until the next call only.
            scores = torch.cat([torch.softmax(self._module(list(part)).float(), dim=1) for part in parts])
            probabilities: Scores = scores.cpu().numpy()
        return probabilities

    @contextmanager
    def _examined(self) -> Iterator[None]:
        """Find out, after an error, whether the model still runs. After some of CUDA's errors nothing does."""
        try:
            yield
        except Exception:
            try:
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                self._run_grey(1)
            except Exception as error:
                self.lost = first_line(error)
                logger.exception("After an error the model does not run a grey clip either")
            raise

    def warm_up(self) -> None:
        """Run the model until it is as fast as it gets, on grey clips of each batch size that will be used."""
        for batch in (self.artifact.batch,) if self.artifact.batch else self._batches:
            for _ in range(_WARM_UP_RUNS[self.artifact.runtime]):
                self._run_grey(batch)

    def _run_grey(self, batch: int) -> None:
        side, count = self.spec.crop, self.spec.num_frames
        clip = np.full((count, side, side, 3), 114 * STEPS_PER_LEVEL, dtype=np.int16)
        pathways = self._transform([clip] * batch)
        with torch.inference_mode():
            self._scores(pathways)


def _half(count: int) -> int:
    """Half of a batch that did not fit into memory."""
    logger.warning("Out of memory with %d clips: they are run in halves", count)
    torch.cuda.empty_cache()
    return count // 2
