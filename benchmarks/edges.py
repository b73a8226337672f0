"""How near a timeline's edges are to the cuts: videos spliced from the eight motions at known frames.

The same scores with the edges where the evidence turns, and moved to where both scores begin to fall
(`actionrec.segments`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from actionrec import segments
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest
from actionrec.sampling import Selection

from benchmarks.archives import archive, unpacked
from benchmarks.measure import report
from export.motion.scene import LABELS
from tests.test_timeline import STRIDE_SECONDS, spliced

SEED = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=40)
    options = parser.parse_args()
    errors: dict[str, list[list[float]]] = {
        "where the evidence turns": [],
        "where both scores begin to fall": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        classifier = Classifier.load(unpacked(archive("motion", Path(folder))))
        for seed in range(SEED, SEED + options.videos):
            video, labels, cuts = spliced(seed, (320, 240) if seed % 2 else (240, 320))
            request = ClipRequest(video, selection=Selection(stride_seconds=STRIDE_SECONDS))
            (answer,) = classifier.classify([request])
            if isinstance(answer, Exception):
                raise answer
            windows = [(w.clip.start_seconds, w.clip.end_seconds) for w in answer.windows]
            scores = np.array([w.scores for w in answer.windows])
            for farthest, found in zip((0.0, segments.FARTHEST_TURN), errors.values(), strict=True):
                with patch.object(segments, "FARTHEST_TURN", farthest):
                    spans = segments.segments(windows, scores)
                if [LABELS[span.class_index] for span in spans] == labels:
                    pairs = zip(spans[:-1], cuts[1:-1], strict=True)
                    found.append([abs(span.end_seconds - cut) for span, cut in pairs])
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
    report("edges", f"{options.videos} spliced videos, a window every {STRIDE_SECONDS} s", rows)


if __name__ == "__main__":
    main()
