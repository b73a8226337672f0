"""Embeddings -> one linear layer: logistic regression on standardised features, its strength chosen by folds.

    outer folds   train                           | test: out-of-fold logits, that nothing was fitted to
    inner folds   of train: choose the strength   |
    at the end    all examples: choose the strength, fit

A video is on one side of a fold only, with all its examples and copies. The strength for a fold is chosen
without its test videos, so what the out-of-fold logits say of accuracy, temperature and threshold is honest.

L2-regularised regression does not change where features are rotated. So each training set is first written in
the basis of its own windows: as many numbers a window as there are windows, and not thousands.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_FOLDS = 10
"""Of the cross-validation: what is measured has learned from nine tenths of the videos. Where a label has fewer
videos there are as many folds."""
INNER_FOLDS = 3
STRENGTHS = tuple(float(10.0**power) for power in np.arange(-4.0, 0.5, 0.5))
"""scikit-learn's C, from the strongest regularisation to the weakest."""
SEED = 0
_ITERATIONS = 500
_ABSENT = -30.0
"""Logit of a label that the training videos of a fold do not have."""
_LEAST_SPREAD = 1e-6
"""Where all features are as good as constant."""


@dataclass(frozen=True)
class Samples:
    """Windows with their labels."""

    features: Floats
    """float64 [windows, features]"""
    classes: Ints
    """int64 [windows]: number of the label."""
    examples: Ints
    """int64 [windows]: number of the example."""
    videos: Ints
    """int64 [windows]: number of the video; copies of a video have one number."""
    count: int
    """Number of labels."""

    def rows(self, chosen: Ints) -> Samples:
        """Some of the windows."""
        return Samples(
            self.features[chosen], self.classes[chosen], self.examples[chosen], self.videos[chosen], self.count
        )

    @property
    def weights(self) -> Floats:
        """float64 [windows]: each example counts once, however many windows it has."""
        _, place, counts = np.unique(self.examples, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / counts[place])


@dataclass(frozen=True)
class Layer:
    """A linear layer on embeddings."""

    weight: Floats
    """float64 [classes, features]"""
    bias: Floats
    """float64 [classes]"""

    def logits(self, features: Floats) -> Floats:
        """Features float64 [windows, features] -> float64 [windows, classes]."""
        return np.asarray(features @ self.weight.T + self.bias)

    def cooled(self, temperature: float) -> Layer:
        """The layer whose logits are divided by a temperature."""
        return Layer(self.weight / temperature, self.bias / temperature)


@dataclass(frozen=True)
class Fit:
    """A layer, and what the folds say of it."""

    layer: Layer
    """Fitted to all examples, temperature included."""
    strength: float
    """scikit-learn's C."""
    temperature: float
    out_of_fold: Floats
    """float64 [windows, classes]: logits of layers that have not seen the window's video, temperature
    included."""
    halved: Floats
    """The same of layers that were fitted to half of the training videos."""


def fit(samples: Samples, step: Callable[[], None] = lambda: None) -> Fit:
    """Fit a layer, and measure it by nested cross-validation.

    Args:
        samples: several videos for each label.
        step: called `steps` times on the way.
    """
    # One thread: the same sums in the same order every time, and at these sizes no slower.
    with threadpool_limits(1):
        out_of_fold = np.empty((len(samples.classes), samples.count))
        halved = np.empty_like(out_of_fold)
        count = fold_count(samples)
        for train, test in folds(samples, count):
            seen, unseen = samples.rows(train), samples.features[test]
            strength = _best_strength(seen, INNER_FOLDS)
            out_of_fold[test] = _fitted(seen, [strength])[0].logits(unseen)
            half, _ = next(folds(seen, 2))
            halved[test] = _fitted(seen.rows(half), [strength])[0].logits(unseen)
            step()
        temperature = _temperature(out_of_fold, samples)
        strength = _best_strength(samples, count)
        layer = _fitted(samples, [strength])[0]
        step()
    return Fit(
        layer.cooled(temperature), strength, temperature, out_of_fold / temperature, halved / temperature
    )


def layer_of(samples: Samples) -> Layer:
    """A layer with the strength that folds inside the samples choose, temperature not included."""
    with threadpool_limits(1):
        return _fitted(samples, [_best_strength(samples, INNER_FOLDS)])[0]


def calibrated(logits: Floats, samples: Samples) -> tuple[float, float]:
    """The temperature that suits logits best, and the mean log loss of an example with it.

    Args:
        logits: float64 [windows, classes].
        samples: the windows.
    """
    temperature = _temperature(logits, samples)
    return temperature, _loss(logits / temperature, samples) / float(samples.weights.sum())


def steps(samples: Samples) -> int:
    """How often `fit` calls `step`."""
    return fold_count(samples) + 1


def fold_count(samples: Samples) -> int:
    """How many folds `fit` measures in."""
    labels = range(samples.count)
    videos = min(len(np.unique(samples.videos[samples.classes == label])) for label in labels)
    return min(MOST_FOLDS, videos)


def folds(samples: Samples, count: int) -> Iterator[tuple[Ints, Ints]]:
    """(train, test) rows of each fold: labels are spread evenly, and a video is on one side only."""
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=SEED)
    yield from splitter.split(samples.features, samples.classes, samples.videos)


def _best_strength(samples: Samples, count: int) -> float:
    """The strength with the least log loss on videos that were not fitted."""
    losses = np.zeros(len(STRENGTHS))
    for train, test in folds(samples, count):
        unseen = samples.rows(test)
        for number, layer in enumerate(_fitted(samples.rows(train), STRENGTHS)):
            losses[number] += _loss(layer.logits(unseen.features), unseen)
    return float(STRENGTHS[int(losses.argmin())])


def _loss(logits: Floats, samples: Samples) -> float:
    """Log loss, summed over the examples."""
    right = log_softmax(logits, axis=1)[np.arange(len(logits)), samples.classes]
    return -float(right @ samples.weights)


def _temperature(logits: Floats, samples: Samples) -> float:
    """The number that logits are divided by, for scores that are as often right as they say."""
    found = minimize_scalar(
        lambda power: _loss(logits / np.exp(power), samples), bounds=(-3.0, 3.0), method="bounded"
    )
    return float(np.exp(found.x))


def _fitted(samples: Samples, strengths: tuple[float, ...] | list[float]) -> list[Layer]:
    """A layer for each strength; strengths ascend, and each fit starts from the one before."""
    weights = samples.weights
    mean = np.average(samples.features, axis=0, weights=weights)
    spread = np.sqrt(np.average((samples.features - mean) ** 2, axis=0, weights=weights))
    # Features that hardly ever differ stay small: a few windows would decide what they mean.
    alive = spread[spread > _LEAST_SPREAD]
    spread = np.maximum(spread, np.median(alive) if len(alive) else 1.0)
    short, basis = _in_own_basis((samples.features - mean) / spread)
    regression = LogisticRegression(solver="newton-cg", max_iter=_ITERATIONS, warm_start=True)
    layers = []
    for strength in strengths:
        regression.set_params(C=strength)
        with warnings.catch_warnings():
            # What has not settled after so many steps is barely regularised, and folds do not choose it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(short, samples.classes, sample_weight=weights)
        layers.append(_unfolded(regression, basis, mean, spread, samples.count))
    return layers


def _in_own_basis(features: Floats) -> tuple[Floats, Floats]:
    """Features [windows, features] -> [windows, few] and the basis [few, features]."""
    if len(features) >= features.shape[1]:
        return features, np.eye(features.shape[1])
    left, sizes, basis = np.linalg.svd(features, full_matrices=False)
    return np.asarray(left * sizes), np.asarray(basis)


def _unfolded(regression: LogisticRegression, basis: Floats, mean: Floats, spread: Floats, count: int) -> Layer:
    """The layer on features as they are: basis and standardisation become part of it."""
    rows, offsets = regression.coef_ @ basis, regression.intercept_
    if len(rows) == 1:  # of two labels scikit-learn gives the difference
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight = np.zeros((count, len(mean)))
    bias = np.full(count, _ABSENT)
    weight[regression.classes_] = rows / spread
    bias[regression.classes_] = offsets - (rows / spread) @ mean
    return Layer(weight, bias)
