"""Promise: the accuracy that is reported is that on videos that nothing was fitted to, and is said in words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from export.learn import fit as fitting
from export.learn.fit import Samples, fit, folds
from export.learn.measure import COUNTED, Measured, Share, Verdict, measure, wilson
from export.learn.picture import bars, confusion

FEATURES = 200


def made(
    labels: int = 3, videos: int = 10, windows: int = 1, signal: float = 0.5, seed: int = 0, spans: int = 1
) -> Samples:
    """Windows whose label shows in a few of many features, as strongly as `signal` says; windows of a video
    are alike. Each label has as many videos; each video has spans of its one label.
    """
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((labels, FEATURES)) * signal
    classes = np.repeat(np.arange(labels), videos)
    alike = directions[classes] + rng.standard_normal((labels * videos, FEATURES))
    each = spans * windows
    features = np.repeat(alike, each, 0) + 0.1 * rng.standard_normal((labels * videos * each, FEATURES))
    return Samples(
        features=features,
        classes=np.repeat(classes, each),
        examples=np.repeat(np.arange(labels * videos * spans), windows),
        videos=np.repeat(np.arange(labels * videos), each),
        count=labels,
    )


def measured(samples: Samples) -> Measured:
    found = fit(samples)
    return measure(samples, found.out_of_fold, found.halved, [f"label {n}" for n in range(samples.count)])


def shuffled(samples: Samples, seed: int) -> Samples:
    """The same videos with labels that mean nothing."""
    videos = len(np.unique(samples.videos))
    labels = np.random.default_rng(seed).permutation(np.arange(videos) % samples.count)
    return Samples(samples.features, labels[samples.videos], samples.examples, samples.videos, samples.count)


def test_no_video_on_both_sides() -> None:
    """A video with several spans, and a copy of it, is on one side of every fold."""
    samples = made(spans=3)
    for train, test in folds(samples, 5):
        assert not set(samples.videos[train]) & set(samples.videos[test])
        assert len(train) + len(test) == len(samples.classes)


def test_copies_do_not_help() -> None:
    """Labels that only a video's own other span tells are not recognised."""
    samples = shuffled(made(spans=3, signal=0.0), seed=3)
    assert measured(samples).plain.value < 0.5
    apart = Samples(samples.features, samples.classes, samples.examples, samples.examples, samples.count)
    assert measured(apart).plain.value > 0.9  # so the spans would tell, if they were on both sides


@pytest.mark.parametrize("seed", range(3))
def test_random_labels_are_chance(seed: int) -> None:
    """Random labels are reported as chance, and the verdict is not good."""
    found = measured(shuffled(made(labels=6, videos=14, signal=0.0, seed=seed), seed))
    low, high = found.plain.interval()
    assert low <= 1 / 6 <= high
    assert found.verdict is Verdict.CHANCE
    assert found.words.startswith("This is chance")


def test_the_strength_does_not_see_the_test_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen for a fold is chosen from its training videos alone."""
    samples = made()
    seen: list[set[int]] = []
    choose = fitting._best_strength

    def noted(some: Samples, count: int) -> float:
        seen.append(set(some.videos.tolist()))
        return choose(some, count)

    monkeypatch.setattr(fitting, "_best_strength", noted)
    fit(samples)
    tested = [set(samples.videos[test].tolist()) for _, test in folds(samples, fitting.fold_count(samples))]
    assert len(seen) == len(tested) + 1  # the last one is for the layer that is kept
    assert all(not chosen & test for chosen, test in zip(seen, tested, strict=False))


def test_same_as_scikit_learn_in_full() -> None:
    """The short way through the windows' own basis is the regression on all standardised features."""
    samples = made(videos=6)
    (layer,) = fitting._fitted(samples, [0.01])
    mean = np.average(samples.features, axis=0, weights=samples.weights)
    spread = np.sqrt(np.average((samples.features - mean) ** 2, axis=0, weights=samples.weights))
    spread = np.maximum(spread, np.median(spread))
    plain = LogisticRegression(C=0.01, solver="newton-cg", max_iter=1000, tol=1e-8)
    plain.fit((samples.features - mean) / spread, samples.classes, sample_weight=samples.weights)
    expected = plain.predict_proba((samples.features - mean) / spread)
    np.testing.assert_allclose(softmax(layer.logits(samples.features), axis=1), expected, atol=1e-3)


def test_two_labels() -> None:
    """Two labels have two logits, as more labels have."""
    found = fit(made(labels=2, videos=6))
    assert found.layer.weight.shape == (2, FEATURES)
    assert found.out_of_fold.shape == (12, 2)


def test_a_label_that_a_fold_lacks() -> None:
    """Where training videos lack a label, others are answered, and nothing fails."""
    samples = made(labels=3, videos=5)
    (layer,) = fitting._fitted(samples.rows(np.flatnonzero(samples.classes != 2)), [0.1])
    logits = layer.logits(samples.features)
    assert np.isfinite(logits).all()
    assert (logits.argmax(1) != 2).all()


def test_constant_features() -> None:
    """Features that never differ, as dead channels do, change nothing."""
    samples = made(videos=6)
    dead = np.concatenate([samples.features, np.full((len(samples.classes), 40), 3.0)], 1)
    with_dead = Samples(dead, samples.classes, samples.examples, samples.videos, samples.count)
    one, other = fit(samples), fit(with_dead)
    np.testing.assert_allclose(one.out_of_fold, other.out_of_fold, atol=1e-3)


def test_equal_input_gives_equal_bytes() -> None:
    """Learning again from the same windows gives the same layer to the last bit."""
    one, other = fit(made()), fit(made())
    assert one.layer.weight.tobytes() == other.layer.weight.tobytes()
    assert one.out_of_fold.tobytes() == other.out_of_fold.tobytes()


def test_calibrated() -> None:
    """Out-of-fold scores are as often right as they say: no other temperature would be better."""
    samples = made(videos=40, signal=0.15)
    found = fit(samples)

    def loss(temperature: float) -> float:
        scores = log_softmax(found.out_of_fold / temperature, axis=1)
        return -float(scores[np.arange(len(scores)), samples.classes].mean())

    assert loss(1.0) <= min(loss(0.7), loss(1.4))
    scores = softmax(found.out_of_fold, axis=1).max(1)
    right = found.out_of_fold.argmax(1) == samples.classes
    assert scores.mean() == pytest.approx(right.mean(), abs=0.1)


def test_the_interval_holds_new_videos() -> None:
    """On ten lists of videos, the interval has the accuracy on new ones in at least nine."""
    inside = 0
    for seed in range(10):
        both = made(labels=4, videos=64, signal=0.18, seed=seed)
        known = np.flatnonzero(both.videos % 64 < 14)
        train = both.rows(known)
        found = fit(train)
        low, high = measure(train, found.out_of_fold, found.halved, list("abcd")).plain.interval()
        new = np.setdiff1d(np.arange(len(both.classes)), known)
        accuracy = float((found.layer.logits(both.features[new]).argmax(1) == both.classes[new]).mean())
        inside += low <= accuracy <= high
    assert inside >= 9


def test_wilson() -> None:
    """The interval is Wilson's, and has a length where all are right."""
    assert wilson(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)  # as in tables of it
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert Share(27, 30).interval() == wilson(0.9, 30 / COUNTED)


def test_verdicts() -> None:
    """Clear labels are good; labels that grow with clips want more of them; what does not grow, fine-tuning."""
    assert measured(made(labels=4, videos=25, signal=0.6)).verdict is Verdict.GOOD
    few = measured(made(labels=2, videos=6, signal=0.8))
    assert few.plain.value == 1.0
    assert few.verdict is Verdict.MORE_CLIPS
    assert "too few to say more" in few.words
    hard = measured(made(videos=50, signal=0.08))
    assert 0.4 < hard.plain.value < 0.85
    assert hard.verdict is Verdict.FINE_TUNE
    assert "Frozen features are not enough" in hard.words


def test_weak_labels_are_named() -> None:
    """Where one label is recognised seldom, the verdict names it."""
    samples = made(labels=5, videos=20, signal=0.7)
    noise = np.random.default_rng(1).standard_normal(samples.features.shape)
    mixed = np.isin(samples.classes, (0, 1))[:, None]  # two labels that look alike
    features = np.where(mixed, noise, samples.features)
    found = measured(Samples(features, samples.classes, samples.examples, samples.videos, samples.count))
    assert set(found.weak) == {0, 1}
    assert "label 0, label 1" in found.words


def test_the_threshold() -> None:
    """Of the right answers of the folds a twentieth is unsure, and of the wrong ones more."""
    found = measured(made(labels=4, videos=40, signal=0.14))
    assert 0.2 < found.plain.value < 1
    assert found.unsure_right == pytest.approx(0.05, abs=0.02)
    assert found.unsure_wrong > found.unsure_right


def test_the_confusion_counts_each_example_once() -> None:
    """Rows of what is taken for what add up to the examples of a label; the wrong ones are named."""
    samples = made(labels=4, videos=20, signal=0.12, windows=3)
    found = measured(samples)
    assert found.confusion.sum(1).tolist() == [20] * 4
    assert len(found.wrong) == found.confusion.sum() - np.trace(found.confusion)
    assert all(samples.classes[samples.examples == number][0] != answer for number, answer, _ in found.wrong)


def test_pictures() -> None:
    """Both pictures have every label, escaped, and every count."""
    names = ["a<b", "c&d"]
    picture = confusion(names, np.array([[7, 1], [0, 13]]))
    assert picture.count("a&lt;b") == 2
    assert all(f">{count}</text>" in picture for count in (7, 1, 13))
    assert "c&amp;d" in bars(names, [Share(7, 8), Share(13, 13)])
    assert ">88%</text>" in bars(names, [Share(7, 8), Share(13, 13)])
