"""Whether explanations of `motion` point at what moves, and whether the score needs what they point at.

Of each clip the label that the model gives is explained. The peak is the place and the time with the largest
share. The deletion test makes the strongest tenth of all places and times grey, and beside it random tenths.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from actionrec.sampling import Selection

from actionrec_client import ActionClient
from actionrec_client.deletion import DRAWS, delete
from benchmarks.archives import archive
from benchmarks.load import torchserve
from benchmarks.measure import report
from motion.clips import ORDINARY, random_clip
from motion.scene import LABELS
from testing.pointing import by_chance, pointing

CLIPS = 160
SEED = 70_000
DIFFICULTIES = {"plain": 0.2, "ordinary": ORDINARY, "hardest": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS, help="of each difficulty")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        archive("motion", store)
        with torchserve(store) as state:
            client = ActionClient(state.inference_url)
            rows = [_row(client, name, value, options.clips) for name, value in DIFFICULTIES.items()]
    report("explain", f"explanations of {options.clips} generated clips", rows, {"draws": DRAWS, "seed": SEED})


def _row(client: ActionClient, name: str, difficulty: float, count: int) -> dict[str, Any]:
    right, place, point, chance, deletions = [], [], [], [], []
    for number in range(count):
        clip = random_clip(SEED + number, LABELS[number % len(LABELS)], difficulty=difficulty)
        explanation = client.explain(clip.data)
        hit = pointing(explanation, clip)
        right.append(explanation.label == clip.label)
        place.append(hit.place)
        point.append(hit.point)
        chance.append(by_chance(explanation, clip))
        deletions.append(delete(client, clip.data, explanation, Selection(), seed=number))
    drop = float(np.mean([one.drop for one in deletions]))
    random_drop = float(np.mean([one.random_drop for one in deletions]))
    return {
        "clips": name,
        "right label": float(np.mean(right)),
        "peak's place on the object": float(np.mean(place)),
        "peak's point on it": float(np.mean(point)),
        "a random place on it": float(np.mean(chance)),
        "score": float(np.mean([one.score for one in deletions])),
        "fall, strongest tenth": drop,
        "fall, random tenth": random_drop,
        "ratio": drop / random_drop,
    }


if __name__ == "__main__":
    main()
