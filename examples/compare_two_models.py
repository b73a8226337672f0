"""Two served models and the same clips: how often they agree, where they do not, and how long each takes.

    python examples/compare_two_models.py clips/*.mp4 --a http://127.0.0.1:8080/predictions/slowfast_r50
                                                      --b http://127.0.0.1:8080/predictions/mine

An int8 archive beside an fp32 one, a new version beside the old one, a fast model beside a good one.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from actionrec_client import ActionClient, Result, ServerError


def timed(client: ActionClient, clip: Path) -> tuple[Result, float]:
    """The answer to a clip, and the milliseconds until it was there."""
    began = time.perf_counter()
    result = client.classify(clip)
    return result, (time.perf_counter() - began) * 1e3


def main() -> None:
    """Ask one after the other, clip for clip, so that neither has the machine for itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="video files")
    parser.add_argument("--a", required=True, help="address of one model")
    parser.add_argument("--b", required=True, help="address of the other")
    options = parser.parse_args()

    times: tuple[list[float], list[float]] = [], []
    agreed = 0
    try:
        clients = ActionClient(options.a), ActionClient(options.b)
        for client in clients:
            client.reach()  # a server that is not there is told of at once, not after all tries
        for clip in options.clips:
            (a, ms_a), (b, ms_b) = (timed(client, clip) for client in clients)
            times[0].append(ms_a)
            times[1].append(ms_b)
            agreed += a.label == b.label
            sign = "=" if a.label == b.label else "X"
            print(f"{sign} {clip}: {a.label} {a.score:.2f} | {b.label} {b.score:.2f}")
    except ServerError as error:
        sys.exit(f"error: {error}")

    print(f"They agree on {agreed} of {len(options.clips)} clips.")
    for name, model, its_times in zip("ab", (a.model, b.model), times, strict=True):
        median = statistics.median(its_times)
        print(
            f"{name}: {model.name} {model.version} ({model.runtime} {model.precision}), {median:.0f} ms a clip"
        )


if __name__ == "__main__":
    main()
