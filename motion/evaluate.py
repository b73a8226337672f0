"""How often `motion` is right on files that it has never seen, in this process or through a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from actionrec.model.transform import pack
from actionrec.video.decode import decode
from numpy.typing import NDArray

from motion.clips import MotionClip
from motion.model import MOTION_SPEC, build_motion
from motion.scene import LABELS

if TYPE_CHECKING:
    from actionrec_client import ActionClient

LEAST_ACCURACY = 0.97
LEAST_CLASS_ACCURACY = 0.93

Classifier = Callable[[MotionClip], str]
"""Returns the label that the model gives a clip."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation."""

    confusion: NDArray[np.int64]
    """int64 [8, 8]: [true class, predicted class]."""
    wrong: tuple[tuple[int, str, str], ...]
    """Seed, true label and predicted label of every clip with a wrong answer."""

    @property
    def accuracy(self) -> float:
        """Share of clips with the right label, 0 to 1."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """The same for each class, float64 [8]."""
        counts = self.confusion.sum(1)
        return np.asarray(np.diag(self.confusion) / np.maximum(counts, 1))

    @property
    def good_enough(self) -> bool:
        """Whether the weights are as good as the model card says."""
        return self.accuracy >= LEAST_ACCURACY and bool(self.class_accuracy.min() >= LEAST_CLASS_ACCURACY)


def evaluate(classify: Classifier, clips: Iterable[MotionClip]) -> Evaluation:
    """Classify clips and count the answers."""
    confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
    wrong = []
    for clip in clips:
        answer = classify(clip)
        confusion[LABELS.index(clip.label), LABELS.index(answer)] += 1
        if answer != clip.label:
            wrong.append((clip.seed, clip.label, answer))
    return Evaluation(confusion, tuple(wrong))


def in_process(weights: Path) -> Classifier:
    """A classifier that decodes in this process and runs the eager model with `weights`."""
    model = load(weights)

    def classify(clip: MotionClip) -> str:
        frames = decode(clip.data, MOTION_SPEC).frames
        with torch.inference_mode():
            return LABELS[int(model(pack(torch.from_numpy(frames)[None], MOTION_SPEC)).argmax())]

    return classify


def through(client: ActionClient) -> Classifier:
    """A classifier that sends each clip to a server."""
    return lambda clip: client.classify(clip.data, top_k=1).label


def load(weights: Path) -> torch.nn.Module:
    """The model with the weights of a file, in float32 and eval mode."""
    model = build_motion()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
