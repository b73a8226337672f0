"""An exported model, loaded and run: frames -> scores, and feature maps for whoever asks.

    frames -> `transform` -> `compute` -> `Running.scores`, `Running.maps`
              on a CPU: normalise, pack    trunk, head, softmax
              on a GPU: upload             the same and what stands left of it, in one graph, while this goes on

One `Runtime` a worker. Needs neither pytorchvideo nor torchvision.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import first_line
from ..head import Head
from ..manifest import Artifact, Manifest
from ..reply import Scores
from ..spec import STEPS_PER_LEVEL, ClipSpec
from ..video.resize import Pixels
from . import cuda
from .head import TorchHead
from .host import arithmetic, has_fast, mismatch, why_slow
from .loaders import LOADERS, Trunk
from .running import Part, Running
from .transform import pack

logger = logging.getLogger(__name__)

Prepared = list[list[Tensor]]
"""A batch on the device, in parts that are computed one after the other. A part is the pathways of its clips,
or on a GPU their frames, int16 [B, T, H, W, 3]."""

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.uint8,
}
"""Precision -> type of the pathways."""

# After the one that tries an artifact. TorchScript's profiling executor runs a graph twice before it settles
# on an optimised one; compiled code needs one more run until the memory that this process keeps is all there.
_WARM_UP_RUNS = {"torchscript": 3}


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
        self.head = Head.load(directory)
        """What stands after the maps, for embeddings and explanations."""
        self._torch_head = TorchHead(self.head).to(self.device)
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
            with arithmetic(artifact.precision):
                self._trunk: Trunk = LOADERS[artifact.runtime](path, self.device)
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
        self._upload = cuda.Uploader(self.spec, self.device)
        self._graphs = cuda.Graphs(self._from_frames, self.spec, self.device)

    @property
    def max_batch(self) -> int:
        """Clips worth running together: on a CPU one clip fills all cores, so more would only wait."""
        return self.artifact.batch or self._batches[-1]

    @property
    def in_flight(self) -> int:
        """Batches worth starting before the scores of the first are fetched: on a GPU the next one is copied
        while one is computed.
        """
        return 2 if self.device.type == "cuda" else 1

    @property
    def _batches(self) -> tuple[int, ...]:
        """Batch sizes that the model is run with, where the artifact takes any."""
        return cuda.BATCHES if self.device.type == "cuda" else (1,)

    def memory(self, shape: tuple[int, ...]) -> Pixels:
        """Memory for the frames of a clip, int16 and not set, that the device copies from without waiting."""
        if self.device.type != "cuda":
            return np.empty(shape, np.int16)
        with cuda.current(self.device):
            return cuda.pinned(shape)

    def transform(self, frames: Sequence[Pixels]) -> Prepared:
        """Bring clips, int16 [T, H, W, 3] each, to the device. Returns at once on a GPU."""
        with self._examined():
            return self._transform(frames)

    def compute(self, prepared: Prepared, maps_of: Collection[int] = ()) -> Running:
        """Start the model on what `transform` gave. Returns at once on a GPU.

        Args:
            prepared: left as it is.
            maps_of: rows whose feature maps are wanted too.
        """
        with self._examined():
            return Running(self._parts(prepared, maps_of), self._examined)

    def scores(self, prepared: Prepared) -> Scores:
        """Run the model on what `transform` gave; probabilities float32 [B, classes]."""
        return self.compute(prepared).scores()

    @torch.inference_mode()
    def _transform(self, frames: Sequence[Pixels]) -> Prepared:
        """In parts that a GPU takes at once; in smaller ones where there is no memory."""
        if self.device.type != "cuda":
            batch = (
                torch.from_numpy(frames[0])[None] if len(frames) == 1 else torch.from_numpy(np.stack(frames))
            )
            return [pack(batch, self.spec, self.device, self.dtype)]
        size = min(len(frames), self.max_batch)
        try:
            if len(frames) == size:
                with cuda.current(self.device):
                    return [[self._upload(frames)]]
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = _half(size)
        parts = (frames[first : first + size] for first in range(0, len(frames), size))
        return [inputs for part in parts for inputs in self._transform(part)]

    @torch.inference_mode()
    def _parts(self, prepared: Prepared, maps_of: Collection[int]) -> list[Part]:
        parts: list[Part] = []
        with cuda.current(self.device), arithmetic(self.artifact.precision):
            for inputs in prepared:
                parts += self._started(inputs, maps_of, sum(len(part.scores) for part in parts))
        return parts

    def _started(self, inputs: list[Tensor], maps_of: Collection[int], first: int) -> list[Part]:
        """Start on some rows, of which `first` come before; in halves where there is no memory for all."""
        count = len(inputs[0])
        size = min(count, self.artifact.batch or count)
        try:
            if count == size:
                scores, maps = self._computed(list(inputs))
                wanted = {row - first for row in maps_of} & {*range(count)}
                return [self._fetched(scores, {row: [one[row] for one in maps] for row in wanted})]
        except torch.OutOfMemoryError:
            if count == 1:
                raise
            size = _half(count)
        starts = range(0, count, size)
        return [
            part
            for start in starts
            for part in self._started([each[start : start + size] for each in inputs], maps_of, first + start)
        ]

    def _computed(self, inputs: list[Tensor]) -> cuda.Outputs:
        """Scores and maps; on a GPU they are valid until the next call."""
        return self._graphs(inputs[0]) if self.device.type == "cuda" else self._from_pathways(inputs)

    def _from_frames(self, frames: Tensor) -> cuda.Outputs:
        return self._from_pathways(pack(frames, self.spec, self.device, self.dtype))

    def _from_pathways(self, pathways: list[Tensor]) -> cuda.Outputs:
        maps = self._trunk(pathways)
        return torch.softmax(self._torch_head(maps), dim=1), maps

    def _fetched(self, scores: Tensor, maps: dict[int, list[Tensor]]) -> Part:
        """What was computed, on its way to the host's memory."""
        if self.device.type != "cuda":
            return Part(scores, {row: [one.float() for one in some] for row, some in maps.items()})
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        rows = {row: [cuda.fetched(one) for one in some] for row, some in maps.items()}
        part = Part(cuda.fetched(scores), rows, done)
        done.record()
        return part

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
            for _ in range(_WARM_UP_RUNS.get(self.artifact.runtime, 1)):
                self._run_grey(batch)

    def _run_grey(self, batch: int) -> None:
        side, count = self.spec.crop, self.spec.num_frames
        clip = np.full((count, side, side, 3), 114 * STEPS_PER_LEVEL, dtype=np.int16)
        Running(self._parts(self._transform([clip] * batch), ())).scores()


def _half(count: int) -> int:
    """Half of a batch that did not fit into memory."""
    logger.warning("Out of memory with %d clips: they are run in halves", count)
    torch.cuda.empty_cache()
    return count // 2
