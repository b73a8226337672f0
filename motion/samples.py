"""Training samples: scenes seen through the pipeline, and the symmetries that multiply them.

Most samples are rendered straight at the model's size at the instants that the pipeline would read, which is
what its reduction without antialiasing comes to. A share goes the whole way: encoded as a file, then decoded
by the decoder that serves.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Full

import numpy as np
import torch
from actionrec.sampling import uniform_indices
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode
from numpy.typing import NDArray

from motion.backdrops import Backdrops
from motion.clips import random_clip
from motion.model import MOTION_SPEC
from motion.recipe import WINDOW_SECONDS, random_scene
from motion.scene import LABELS, OPPOSITE
from motion.textures import Image

_LABEL_SHARES = (0.09, 0.09, 0.09, 0.09, 0.17, 0.17, 0.15, 0.15)
"""Of the samples, by class: turning on the spot is the hardest to learn, then a change of size."""
_SMALL_SIZES = ((160, 120), (176, 144), (240, 240), (320, 240), (240, 320), (320, 180), (426, 240))
_MIRRORED = (1, 0, 2, 3, 5, 4, 6, 7)
"""The class of each class's clip with left and right exchanged."""
_TRANSPOSED = (2, 3, 0, 1, 5, 4, 6, 7)
"""The class of each class's clip with x and y exchanged."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model sees of a clip, before normalisation."""

    frames: Image
    """uint8 [num_frames, side, side, 3], RGB."""
    label: int


def rendered(
    rng: np.random.Generator, side: int, difficulty: float, backdrops: Backdrops | None = None
) -> Sample:
    """A scene at the model's size, without a codec in between."""
    fps = float(rng.choice((10, 12, 15, 20, 24, 25, 30, 50, 60)))
    seconds = WINDOW_SECONDS if rng.random() < 0.7 else rng.uniform(WINDOW_SECONDS, 6.0)
    scene = random_scene(rng, _label(rng), difficulty, seconds=seconds, fps=fps, backdrops=backdrops)
    times = np.arange(np.ceil(WINDOW_SECONDS * fps)) / fps
    chosen = uniform_indices(len(times), MOTION_SPEC.num_frames)
    distinct, back = np.unique(chosen, return_inverse=True)
    return Sample(scene.render(side, side, times[distinct])[back], LABELS.index(scene.label))


def filmed(
    rng: np.random.Generator, spec: ClipSpec, difficulty: float, backdrops: Backdrops | None = None
) -> Sample:
    """A scene that went through a file: encoded, then decoded as a request is."""
    size = _SMALL_SIZES[rng.integers(len(_SMALL_SIZES))]
    seed = int(rng.integers(2**62))
    clip = random_clip(seed, _label(rng), size=size, seconds=2.2, difficulty=difficulty, backdrops=backdrops)
    return Sample(decode(clip.data, spec).rounded(), LABELS.index(clip.label))


def _label(rng: np.random.Generator) -> str:
    return LABELS[rng.choice(len(LABELS), p=_LABEL_SHARES)]


def varied(rng: np.random.Generator, sample: Sample) -> Sample:
    """The sample turned, mirrored and recoloured at random, with the label that it then has."""
    frames, label = sample.frames, sample.label
    if rng.random() < 0.5:
        frames, label = frames[:, :, ::-1], _MIRRORED[label]
    if rng.random() < 0.5:
        frames, label = frames.transpose(0, 2, 1, 3), _TRANSPOSED[label]
    if rng.random() < 0.5:
        frames, label = frames[:, :, ::-1], _MIRRORED[label]
    if rng.random() < 0.5:
        frames = frames[..., rng.permutation(3)]
    if rng.random() < 0.2:
        frames = 255 - frames
    return Sample(frames, label)


def batch(rng: np.random.Generator, samples: list[Sample]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Each sample, varied, and its twin that runs backwards.

    The twins share all that can be seen in any one frame, so only motion can tell them apart.

    Returns:
        uint8 [2 * len(samples), num_frames, side, side, 3] and int64 [2 * len(samples)].
    """
    forward = [varied(rng, sample) for sample in samples]
    frames = np.stack([sample.frames for sample in forward])
    labels = np.array([sample.label for sample in forward])
    return np.concatenate([frames, frames[:, ::-1]]), np.concatenate([labels, np.array(OPPOSITE)[labels]])


def pathways(frames: NDArray[np.uint8]) -> list[torch.Tensor]:
    """uint8 [B, T, side, side, 3] -> [slow, fast], float32 [B, 3, 8 or 32, side, side]."""
    fast = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float()  # in memory: channels last
    fast.div_(255).sub_(MOTION_SPEC.mean[0]).div_(MOTION_SPEC.std[0])
    chosen = torch.from_numpy(uniform_indices(MOTION_SPEC.num_frames, MOTION_SPEC.pathways[0]))
    return [fast[:, :, chosen].contiguous(memory_format=torch.channels_last_3d), fast]


class Studio:
    """A process that draws samples while the network trains."""

    def __init__(
        self, seed: int, side: int, filmed_share: float, difficulty: float, footage: Path | None = None
    ) -> None:
        context = mp.get_context("spawn")
        self._queue: mp.Queue[Sample] = context.Queue(maxsize=32)
        self._difficulty: Synchronized[float] = context.Value("d", difficulty)
        self._stop = context.Event()
        arguments = (self._queue, self._difficulty, self._stop, seed, side, filmed_share, footage)
        self._process = context.Process(target=_draw, args=arguments, daemon=True)
        self._process.start()

    def take(self, count: int) -> list[Sample]:
        """The next `count` samples, each seen by nobody before."""
        return [self._queue.get(timeout=120) for _ in range(count)]

    def set_difficulty(self, difficulty: float) -> None:
        """For the samples that are drawn from now on."""
        self._difficulty.value = difficulty

    def close(self) -> None:
        """Stop the process."""
        self._stop.set()
        self._process.terminate()
        self._process.join()


def _draw(
    queue: mp.Queue[Sample],
    difficulty: Synchronized[float],
    stop: Event,
    seed: int,
    side: int,
    filmed_share: float,
    footage: Path | None,
) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    backdrops = Backdrops(footage) if footage else None
    spec = replace(MOTION_SPEC, short_side=side, crop=side)
    trainer = mp.parent_process()
    while not stop.is_set() and trainer is not None and trainer.is_alive():
        # Mostly near the present difficulty, with easier ones among them.
        hardness = difficulty.value * float(rng.uniform(0.4, 1))
        if rng.random() < filmed_share:
            draw = filmed(rng, spec, hardness, backdrops)
        else:
            draw = rendered(rng, side, hardness, backdrops)
        with contextlib.suppress(Full):  # the trainer is busy, or gone: look again
            queue.put(draw, timeout=10)
