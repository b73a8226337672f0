"""How near a timeline's edges are to the shot boundaries: videos spliced from the eight motions at known
frames.

The same scores give edges where the evidence turns, and edges moved to shot boundaries (`actionrec.segments`).
It also counts how many shot boundaries were found (`actionrec.video.shot_boundaries`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from actionrec.segments import segments

from benchmarks.archives import archive, unpacked
from benchmarks.measure import console, report
from motion.scene import LABELS
from testing.splice import STRIDE_SECONDS, spliced

SEED = 100
NEAR_SECONDS = 0.1
"""The longest distance from a shot boundary to where it is found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=40)
    options = parser.parse_args()
    errors: dict[str, list[list[float]]] = {"where the evidence turns": [], "at cuts": []}
    seen = false = 0
    with tempfile.TemporaryDirectory() as folder:
        classifier = Classifier.load(unpacked(archive("motion", Path(folder))))
        for seed in range(SEED, SEED + options.videos):
            video, labels, times = spliced(seed, (320, 240) if seed % 2 else (240, 320))
            request = ClipRequest(video, selection=Selection(stride_seconds=STRIDE_SECONDS))
            (answer,) = classifier.classify([request])
            if isinstance(answer, Exception):
                raise answer
            apart = np.abs(np.subtract.outer(answer.shot_boundaries, times[1:-1]))
            seen += int((apart.min(axis=0, initial=np.inf) <= NEAR_SECONDS).sum())
            false += int((apart.min(axis=1) > NEAR_SECONDS).sum())
            windows = [(w.start_seconds, w.end_seconds) for w in answer.windows]
            scores = np.array([w.scores for w in answer.windows])
            for used, found in zip(((), answer.shot_boundaries), errors.values(), strict=True):
                spans = segments(windows, scores, used)
                if [LABELS[span.class_index] for span in spans] == labels:
                    pairs = zip(spans[:-1], times[1:-1], strict=True)
                    found.append([abs(span.end_seconds - time) for span, time in pairs])
    rows: list[dict[str, Any]] = [
        {
            "edges": name,
            "videos with the right labels": len(found),
            "edges within a stride": float(np.mean(np.concatenate(found) <= STRIDE_SECONDS)),
            "videos with all of them": float(np.mean([max(edges) <= STRIDE_SECONDS for edges in found])),
            "mean error, s": float(np.mean(np.concatenate(found))),
        }
        for name, found in errors.items()
    ]
    cuts = {"cuts": options.videos * (len(LABELS) - 1), "found": seen, "false": false}
    console.print(cuts)
    report("edges", f"{options.videos} spliced videos, a window every {STRIDE_SECONDS} s", rows, cuts)


if __name__ == "__main__":
    main()
