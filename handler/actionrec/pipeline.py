"""Many requests -> many results, stages overlapped. Knows no server.

requests -> decode, side by side in threads -> transform -> inference, a batch at a time -> results
            (PyAV and OpenCV let go of the GIL)     while the rest is still being decoded
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from .decode import Decoded, windows
from .errors import ClipError
from .limits import Limits
from .manifest import Manifest
from .request import ClipRequest
from .result import Prediction, Timings
from .runtime import Runtime

logger = logging.getLogger(__name__)


class Classifier:
    """A loaded model that classifies clips.

    Args:
        manifest: what the archive says about itself.
        runtime: its model, on a device.
        decode_threads: clips decoded at once; default: one a core.
    """

    def __init__(self, manifest: Manifest, runtime: Runtime, decode_threads: int | None = None) -> None:
        self.manifest = manifest
        self.runtime = runtime
        self._pool = ThreadPoolExecutor(decode_threads or os.cpu_count() or 1, thread_name_prefix="decode")

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Classifier:
        """From an unpacked archive, warmed up.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: the archive is not whole, or not for this device.
        """
        manifest = Manifest.load(directory)
        runtime = Runtime(directory, manifest, device)
        runtime.warm_up()
        return cls(manifest, runtime)

    def reply(self, prediction: Prediction, top_k: int) -> dict[str, Any]:
        """The JSON object that answers a request."""
        return prediction.to_dict(self.manifest, self.runtime.form, top_k)

    def describe(self) -> dict[str, Any]:
        """What the archive is, and which of its forms is served here."""
        form = self.runtime.form
        serving = {"runtime": form.runtime, "precision": form.precision, "device": str(self.runtime.device)}
        return {**self.manifest.describe(), "serving": {**serving, "passed_over": self.runtime.passed_over}}

    def classify(self, requests: Sequence[ClipRequest]) -> list[Prediction | ClipError]:
        """One result or error a request, in order. A bad clip costs no other clip its answer."""
        results: dict[int, Prediction | ClipError] = {}
        waiting: dict[Future[tuple[Decoded, float]], int] = {
            self._pool.submit(_decode_timed, request, self.manifest): index
            for index, request in enumerate(requests)
        }
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            ready: dict[int, tuple[Decoded, float]] = {}
            for future in done:
                index = waiting.pop(future)
                try:
                    ready[index] = future.result()
                except ClipError as error:
                    results[index] = error
                except Exception:
                    logger.exception("Decoding failed in a way that is not known")
                    results[index] = _internal("The clip could not be decoded.")
            for batch in _batches(ready, self.runtime.max_batch):
                results.update(self._infer(batch))
        return [results[index] for index in range(len(requests))]

    def _infer(self, batch: dict[int, tuple[Decoded, float]]) -> dict[int, Prediction | ClipError]:
        try:
            start = time.perf_counter()
            pathways = self.runtime.transform([clip.frames for clip, _ in batch.values()])
            packed = time.perf_counter()
            scores = self.runtime.scores(pathways)
            end = time.perf_counter()
        except Exception:
            logger.exception("Inference failed on a batch of %d", len(batch))
            return dict.fromkeys(batch, _internal("The model failed on this batch."))
        transform_ms, inference_ms = (packed - start) * 1e3, (end - packed) * 1e3
        return {
            index: Prediction(row, clip, Timings(decode_ms, transform_ms, inference_ms))
            for (index, (clip, decode_ms)), row in zip(batch.items(), scores, strict=True)
        }


def _decode_timed(request: ClipRequest, manifest: Manifest) -> tuple[Decoded, float]:
    start = time.perf_counter()
    clip = next(windows(request.video, manifest.spec, request.selection, Limits()))
    return clip, (time.perf_counter() - start) * 1e3


def _batches(ready: dict[int, tuple[Decoded, float]], size: int) -> Iterator[dict[int, tuple[Decoded, float]]]:
    items = iter(ready.items())
    while batch := dict(islice(items, size)):
        yield batch


def _internal(message: str) -> ClipError:
    return ClipError("INTERNAL", 500, message, "This is the service's fault; its log says more.")
