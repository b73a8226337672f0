"""How to encode a window of a live stream: bytes, time, and what the model then sees.

The original is the window as the server decodes it from the source's own file. Each candidate is that window,
rounded to whole levels, encoded, and decoded by the server's decoder. Bytes, times and levels are at the size
of SlowFast R50 (256 x 256); scores are those of the bundled model, which takes smaller frames.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec
from actionrec.video.decode import decode
from actionrec.video.resize import rounded
from rich.console import Console

from actionrec_client.live.clip import EXACT, SMALL, Coding, encode
from benchmarks.measure import report
from benchmarks.videos import video
from export.build import Order, build
from motion.clips import random_clip
from motion.scene import LABELS

CANDIDATES = {
    "H.264 RGB lossless": EXACT,
    "H.264 RGB lossless, veryfast": Coding("libx264rgb", "rgb24", {"preset": "veryfast", "qp": "0", "bf": "0"}),
    "H.264 RGB crf 4": Coding("libx264rgb", "rgb24", {"preset": "ultrafast", "crf": "4", "bf": "0"}),
    "H.264 4:4:4 lossless": Coding("libx264", "yuv444p", {"preset": "ultrafast", "qp": "0"}),
    "H.264 4:4:4 crf 4": Coding("libx264", "yuv444p", {"preset": "ultrafast", "crf": "4", "bf": "0"}),
    "H.264 4:4:4 crf 10": SMALL,
    "H.264 4:4:4 crf 18": Coding("libx264", "yuv444p", {"preset": "ultrafast", "crf": "18", "bf": "0"}),
    "H.264 4:4:4 full range crf 4": Coding(
        "libx264", "yuvj444p", {"preset": "ultrafast", "crf": "4", "bf": "0"}
    ),
    "H.264 4:2:0 crf 4": Coding("libx264", "yuv420p", {"preset": "ultrafast", "crf": "4", "bf": "0"}),
    "HEVC RGB lossless": Coding(
        "libx265", "gbrp", {"preset": "ultrafast", "x265-params": "lossless=1:log-level=error:bframes=0"}
    ),
    "HEVC 4:4:4 crf 8": Coding(
        "libx265", "yuv444p", {"preset": "ultrafast", "crf": "8", "x265-params": "log-level=error:bframes=0"}
    ),
    "MJPEG 4:4:4 q 2": Coding("mjpeg", "yuvj444p", {"qmin": "1", "qmax": "2", "qscale": "1"}),
    "MPEG-4 q 1": Coding("mpeg4", "yuv420p", {"qmin": "1", "qmax": "1"}),
    "ProRes 4444": Coding("prores_ks", "yuv444p10le", {"profile": "4444"}, "mov"),
}


Scores = npt.NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_encoding", description=__doc__)
    parser.add_argument("--footage", type=Path, help="folder with real clips to measure on as well")
    options = parser.parse_args(arguments)
    clips = [random_clip(100 + number, label).data for number, label in enumerate(LABELS)]
    clips.append(video(1280, 720))
    if options.footage:
        clips += [path.read_bytes() for path in sorted(options.footage.iterdir()) if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        order = Order(model="motion", runtime="torchscript", store=Path(folder))
        zipfile.ZipFile(build(order, Console(quiet=True)).path).extractall(Path(folder) / "archive")
        classifier = Classifier.load(Path(folder) / "archive")
        rows = [
            {"coding": name, **_cost(coding, clips), "score max": _score_difference(coding, clips, classifier)}
            for name, coding in CANDIDATES.items()
        ]
    report("stream_encoding", f"A window of a live stream, on {len(clips)} clips", rows)


def _cost(coding: Coding, clips: Sequence[bytes]) -> dict[str, float]:
    """Bytes, milliseconds of CPU time, and differences of the model's input, in levels of 255."""
    spec = ClipSpec()
    sizes, encode_ms, decode_ms, largest, means = [], [], [], [], []
    for clip in clips:
        original = decode(clip, spec).frames
        frames = [rounded(frame) for frame in original]
        start = time.process_time()
        data = encode(frames, spec, coding)
        coded = time.process_time()
        there = decode(data, spec).frames
        encode_ms.append((coded - start) * 1e3)
        decode_ms.append((time.process_time() - coded) * 1e3)
        sizes.append(len(data))
        difference = np.abs(there.astype(np.int32) - original) / STEPS_PER_LEVEL
        largest.append(float(difference.max()))
        means.append(float(difference.mean()))
    return {
        "kB median": statistics.median(sizes) / 1000,
        "kB max": max(sizes) / 1000,
        "encode ms": statistics.median(encode_ms),
        "decode ms": statistics.median(decode_ms),
        "levels max": max(largest),
        "levels mean": statistics.mean(means),
    }


def _score_difference(coding: Coding, clips: Sequence[bytes], classifier: Classifier) -> float:
    """The largest difference of any score over all clips."""
    spec = classifier.manifest.spec
    worst = 0.0
    for clip in clips:
        frames = [rounded(frame) for frame in decode(clip, spec).frames]
        coded = _scores(classifier, encode(frames, spec, coding))
        worst = max(worst, float(np.abs(coded - _scores(classifier, clip)).max()))
    return worst


def _scores(classifier: Classifier, data: bytes) -> Scores:
    (answer,) = classifier.classify([ClipRequest(data)])
    if not isinstance(answer, Prediction):
        raise answer
    return answer.scores


if __name__ == "__main__":
    main()
