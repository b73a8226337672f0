"""Clips through the gateway, beside the same clips sent to TorchServe directly: what the way through costs.

One TorchServe and one gateway run all the time, and the ways take turns. Closed loop, as in `serve`. ``null``
answers at once, so that its figures are those of the way alone.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.archives import R50, archive, null_archive
from benchmarks.load import Subject, Tally, load, raw, torchserve
from benchmarks.measure import report
from benchmarks.peers import NULL
from benchmarks.videos import video
from deploy import gateway
from deploy.config import load_config
from deploy.state import State

DIRECT, THROUGH, WITH_OPTION = "TorchServe directly", "through the gateway", "through it, with ?top_k=1"
CONCURRENCY = (1, 4, 8)
ROUNDS = 9
WARM_UP = {NULL: 1000, "motion": 200, R50: 4}
"""Clips before any that count."""
CLIPS = {NULL: 300, "motion": 100, R50: 4}
"""A turn, for each number of clients."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=(NULL, "motion", R50), action="append")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    for model in options.model or (NULL, "motion", R50):
        _compare(model, options.rounds)


def _compare(model: str, rounds: int) -> None:
    data = video(340, 256)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store = null_archive(home) if model == NULL else archive(model, home / "store").parent
        with torchserve(store) as state, _gateway(state, home) as url:
            path = f"{url}/predictions/{state.models[0]}"
            subjects = [
                Subject(DIRECT, raw(state.predict_url())),
                Subject(THROUGH, raw(path)),
                *([] if model == NULL else [Subject(WITH_OPTION, raw(f"{path}?top_k=1"))]),
            ]
            tally = Tally()
            gc.collect()
            gc.freeze()
            for subject in subjects:
                load(subject, data, 4, WARM_UP[model])
            for number in range(rounds):
                for clients in CONCURRENCY:
                    # Whoever comes first in a round, the next time comes last.
                    for subject in subjects[:: -1 if number % 2 else 1]:
                        tally.turn(subject, data, clients, max(CLIPS[model], clients))
    rows = sorted(tally.rows(), key=lambda row: (int(row["clients"]), str(row["what"]) != DIRECT, row["what"]))
    for row in rows:
        _compared(row, rows, tally)
    title = f"{model} through the gateway; {len(data) / 1e3:.0f} KB a clip"
    report(f"gateway_{model}", title, rows, {"rounds": rounds})


def _compared(row: dict[str, Any], rows: list[dict[str, Any]], tally: Tally) -> None:
    """Add what a way costs beside the direct one: milliseconds at the median, and its part of the rate."""
    (direct,) = [each for each in rows if each["clients"] == row["clients"] and each["what"] == DIRECT]
    base = tally.rates[row["clients"], DIRECT]
    ratios = [rate / whole for rate, whole in zip(tally.rates[row["clients"], row["what"]], base, strict=True)]
    row["p50 more, ms"] = row["p50 ms"] - direct["p50 ms"]
    row["of the rate"] = statistics.median(ratios)
    row["lowest"], row["highest"] = min(ratios), max(ratios)


@contextmanager
def _gateway(state: State, home: Path) -> Iterator[str]:
    """A gateway before this server."""
    config = replace(
        load_config(Path("config.properties")),
        inference_url=state.inference_url,
        management_url=state.management_url,
    )
    try:
        yield gateway.start(config, home, home, port=0, python=Path(sys.executable), console=False).url
    finally:
        gateway.stop(home, 0.0)


if __name__ == "__main__":
    main()
