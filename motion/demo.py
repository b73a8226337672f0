"""``python -m motion.demo``: sends eight generated clips, one per label, to a served ``motion`` model."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from actionrec_client import ActionClient, ServerError
from motion.clips import random_clip
from motion.scene import LABELS

SEED = 2026
DIFFICULTY = 0.3
"""Difficulty of the clips: a person sees their motion at a glance."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the clips and show the answers; returns 0 where all are right, else 1."""
    parser = argparse.ArgumentParser(prog="python -m motion.demo", description=__doc__)
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080/predictions/motion", help="URL of the served model"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="other seeds make other clips")
    options = parser.parse_args(arguments)
    # In a file or a pipe rich assumes 80 columns and breaks the rows.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

    table = Table("clip", "sent", "top label", "score", "reply", title=f"{len(LABELS)} clips to {options.url}")
    right = 0
    try:
        client = ActionClient(options.url)
        for number, label in enumerate(LABELS):
            clip = random_clip(options.seed + number, label, difficulty=DIFFICULTY)
            began = time.perf_counter()
            best = client.classify(clip.data, top_k=1)
            elapsed_ms = 1000 * (time.perf_counter() - began)
            correct = best.label == label
            right += correct
            table.add_row(
                f"{clip.width}x{clip.height} {clip.fps} fps {clip.codec} {len(clip.data) / 1000:.0f} kB",
                label,
                f"[{'green' if correct else 'red'}]{best.label}[/]",
                f"{best.score:.3f}",
                f"{elapsed_ms:.0f} ms",
            )
    except ServerError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        return 1
    console.print(table)
    console.print(f"{right} of {len(LABELS)} right")
    return 0 if right == len(LABELS) else 1


if __name__ == "__main__":
    sys.exit(main())
