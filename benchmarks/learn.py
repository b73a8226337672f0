"""Whether what `make learn` reports of a head holds for new clips: lists of generated motions, `METHOD=head`.

Each list has clips that no other has. All of them are tried on the same new clips.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection

from benchmarks.archives import archive
from benchmarks.measure import report
from export.learn.embed import WINDOWS
from export.learn.fit import Samples, fit
from export.learn.measure import measure
from testing.motions import MOTIONS, motion_clip

CLIPS = 14
"""Of each motion, in a list."""
NEW = 20
"""Of each motion, to be tried on."""
LISTS = 10
_FIRST_NEW = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=LISTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive("motion", Path(folder) / "store")) as packed:
            packed.extractall(Path(folder) / "motion")
        classifier = Classifier.load(Path(folder) / "motion", "cpu")
        try:
            new = _samples(classifier, _FIRST_NEW, NEW)
            rows = [_row(_samples(classifier, CLIPS * number, CLIPS), new) for number in range(options.lists)]
        finally:
            classifier.close()
    report("learn", f"heads on motion, {CLIPS} clips of each of {len(MOTIONS)} motions", rows)


def _samples(classifier: Classifier, first: int, count: int) -> Samples:
    """The windows of clips of all motions, as `make learn` looks at them."""
    features, classes, videos = [], [], []
    for number, (label, seed) in enumerate((label, first + i) for label in MOTIONS for i in range(count)):
        request = ClipRequest(motion_clip(label, seed), selection=Selection(views=WINDOWS), embedding=True)
        (answer,) = classifier.classify([request])
        assert isinstance(answer, Prediction)
        for window in answer.windows:
            features.append(window.embedding)
            classes.append(MOTIONS.index(label))
            videos.append(number)
    of_videos = np.array(videos)
    return Samples(np.array(features, np.float64), np.array(classes), of_videos, of_videos, len(MOTIONS))


def _row(train: Samples, new: Samples) -> dict[str, Any]:
    found = fit(train)
    plain = measure(train, found.out_of_fold, found.halved, MOTIONS).plain
    low, high = plain.interval()
    _, first_windows = np.unique(new.videos, return_index=True)
    right = found.layer.logits(new.features).argmax(1) == new.classes
    accuracy = float(right[first_windows].mean())
    return {
        "by the folds": plain.value,
        "from": low,
        "to": high,
        "on new clips": accuracy,
        "inside": "yes" if low <= accuracy <= high else "no",
    }


if __name__ == "__main__":
    main()
