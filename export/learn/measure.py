"""Out-of-fold scores -> how good the labels are learned, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest, norm

from .fit import Floats, Ints, Samples

CONFIDENCE = 0.95
COUNTED = 4
"""Videos for each one that an interval counts. The answers of a cross-validation depend on each other, since
its layers have most of their videos in common; a layer of all videos is another one again; and new videos have
luck of their own. Over ten lists of 84 clips (`benchmarks/learn.py`) what the folds say and the accuracy on 120
new clips differ by 0.055 (standard deviation), which is that of 20 independent clips."""
SURE_SHARE = 0.95
"""Share of the right answers whose score is above the threshold of `unsure_below`."""

GOOD = 0.9
"""An accuracy from here on is good, where no label is far below. More clips are the advice where twice as many
would reach it, if they gained as much as the last doubling did."""
WEAK = 0.8
"""A label of which a smaller share is recognised needs more clips."""
CERTAIN = 0.7
"""Where the interval begins lower, the videos are too few to call an accuracy good."""
_NOT_CHANCE = 0.002
"""Least probable luck that still counts as chance."""
_CLEAR = 0.3
"""So far above chance an accuracy is probably none, and the videos are too few to be sure."""


class Verdict(StrEnum):
    """What to do next."""

    GOOD = "good"
    MORE_CLIPS = "more clips"
    FINE_TUNE = "fine-tune"
    CHANCE = "chance"


@dataclass(frozen=True)
class Share:
    """A share of things that were right, and where it will be on as many new ones."""

    right: float
    """How many; a mean over the examples of a video may be a fraction."""
    of: int
    """Out of how many videos."""

    @property
    def value(self) -> float:
        """0 to 1."""
        return self.right / self.of

    def interval(self) -> tuple[float, float]:
        """Where the accuracy on as many new videos will be: Wilson's interval, `COUNTED` videos as one.

        Wilson's holds for few videos, and where all or none are right. The bootstrap would give an interval of
        no length there.
        """
        return wilson(self.value, self.of / COUNTED)

    def to_dict(self) -> dict[str, Any]:
        """Value, interval and number of videos."""
        low, high = self.interval()
        return {
            "accuracy": round(self.value, 4),
            "interval": [round(low, 4), round(high, 4)],
            "videos": self.of,
        }


def wilson(share: float, count: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a share (0 to 1) of `count` independent things."""
    z = float(norm.ppf(0.5 + confidence / 2))
    middle = share + z * z / (2 * count)
    half = z * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)))
    return max(0.0, (middle - half) / (1 + z * z / count)), min(1.0, (middle + half) / (1 + z * z / count))


@dataclass(frozen=True)
class Measured:
    """What the folds say."""

    plain: Share
    """Of a plain request: the example's first window."""
    views: Share
    """Of the mean of all its windows."""
    halved: Share | None
    """Of a plain request, learned from half of the videos; None where that was not tried."""
    chance: float
    """Accuracy of whoever always says the most frequent label."""
    labels: tuple[Share, ...]
    """Of a plain request, for each label: how many of its examples get it."""
    confusion: Ints
    """int64 [classes, classes]: examples of a label (row) that got a label (column), of plain requests."""
    wrong: tuple[tuple[int, int, float], ...]
    """Number of the example, label that it got, its score; the surest first."""
    unsure_below: float
    """Scores below it are unsure."""
    unsure_right: float
    """Share of the right answers that are unsure."""
    unsure_wrong: float
    """Share of the wrong answers that are unsure; 0 where there is none."""
    verdict: Verdict
    words: str
    """The verdict in a sentence or two."""
    weak: tuple[int, ...]
    """Labels that are recognised too seldom."""

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For the archive's description: plain numbers."""
        return {
            **self.plain.to_dict(),
            "views": self.views.to_dict(),
            "chance": round(self.chance, 4),
            "labels": {name: share.to_dict() for name, share in zip(names, self.labels, strict=True)},
            "verdict": str(self.verdict),
        }


def measure(samples: Samples, out_of_fold: Floats, halved: Floats | None, names: Sequence[str]) -> Measured:
    """Measure a fit.

    Args:
        samples: the windows that were fitted.
        out_of_fold: float64 [windows, classes]: `fit.Fit.out_of_fold`.
        halved: the same, of `fit.Fit.halved`; None: of a network that is fine-tuned, which is not trained again
            for it.
        names: of the labels.
    """
    scores = softmax(out_of_fold, axis=1)
    examples, first = np.unique(samples.examples, return_index=True)
    classes, videos = samples.classes[first], samples.videos[first]
    means = np.stack([scores[samples.examples == example].mean(0) for example in examples])
    plain = scores[first]
    answers, best = plain.argmax(1), plain.max(1)
    right = answers == classes
    confusion = np.zeros((samples.count, samples.count), np.int64)
    np.add.at(confusion, (classes, answers), 1)
    of_labels = tuple(
        _share(right[classes == label], videos[classes == label]) for label in range(samples.count)
    )
    whole = _share(right, videos)
    half = None if halved is None else _share(halved[first].argmax(1) == classes, videos)
    chance = float(np.bincount(classes).max() / len(classes))
    unsure_below = float(np.quantile(best[right], 1 - SURE_SHARE)) if right.any() else 1.0
    unsure = best < unsure_below
    weak = tuple(label for label, share in enumerate(of_labels) if share.value < WEAK)
    verdict, words = _verdict(whole, half, chance, [names[label] for label in weak])
    wrong = [(int(examples[i]), int(answers[i]), float(best[i])) for i in np.flatnonzero(~right)]
    return Measured(
        plain=whole,
        views=_share(means.argmax(1) == classes, videos),
        halved=half,
        chance=chance,
        labels=of_labels,
        confusion=confusion,
        wrong=tuple(sorted(wrong, key=lambda each: -each[2])),
        unsure_below=unsure_below,
        unsure_right=float(unsure[right].mean()) if right.any() else 0.0,
        unsure_wrong=float(unsure[~right].mean()) if not right.all() else 0.0,
        verdict=verdict,
        words=words,
        weak=weak,
    )


def _share(right: Floats | Ints, videos: Ints) -> Share:
    """The share of examples that are right. Spans of one video are alike, so it counts once."""
    count = len(np.unique(videos))
    return Share(float(np.mean(right)) * count, count)


def _verdict(whole: Share, half: Share | None, chance: float, weak: Sequence[str]) -> tuple[Verdict, str]:
    accuracy = whole.value
    low, high = whole.interval()
    right = f"{accuracy:.0%} are right"
    luck = binomtest(round(whole.right), whole.of, chance, alternative="greater")
    if luck.pvalue > _NOT_CHANCE and accuracy - chance > _CLEAR:
        return Verdict.MORE_CLIPS, (
            f"More clips of all labels: {right}, but of {whole.of} videos that may be chance ({chance:.0%})."
        )
    if luck.pvalue > _NOT_CHANCE:
        return Verdict.CHANCE, (
            f"This is chance: {right}, and whoever always says the most frequent label is right on "
            f"{chance:.0%}. Check the labels. If they are right, "
            + (
                "the clips are too few, or do not show what the labels say."
                if half is None
                else "frozen features say nothing of them: fine-tune (METHOD=finetune)."
            )
        )
    if accuracy >= GOOD and not weak:
        if low >= CERTAIN:
            return Verdict.GOOD, f"Good: {right}, and no label is far below."
        return Verdict.MORE_CLIPS, (
            f"More clips of all labels: {right}, but {whole.of} videos are too few to say more than that it is "
            f"{low:.0%} to {high:.0%}."
        )
    of_these = ", ".join(weak)
    more = f"More clips of these labels: {of_these}." if weak else "More clips of all labels."
    if half is None:
        return Verdict.MORE_CLIPS, f"{more} {right[0].upper()}{right[1:]}."
    grew = f"{right[0].upper()}{right[1:]}; learned from half of the videos it was {half.value:.0%}."
    if accuracy + max(accuracy - half.value, 0.0) >= GOOD:
        return Verdict.MORE_CLIPS, f"{more} {grew}"
    return Verdict.FINE_TUNE, (
        f"Frozen features are not enough for this, fine-tune (METHOD=finetune). {grew} Twice as many would "
        f"hardly make it {GOOD:.0%}." + (f" The labels that suffer: {of_these}." if weak else "")
    )
