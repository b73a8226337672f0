"""Many requests -> many results, stages overlapped. Knows no server.

requests -> decode, side by side in threads -> transform -> inference, a batch at a time -> results
            (PyAV and OpenCV let go of the GIL)     while the rest is still being decoded
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
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
from .sampling import Selection
from .sandbox import Sandbox
from .spec import ClipSpec

logger = logging.getLogger(__name__)

Decoder = Callable[[bytes, ClipSpec, Selection, Limits], Iterator[Decoded]]
"""`decode.windows`, or `Sandbox.windows`, which gives the same from another process."""


class Classifier:
    """A loaded model that classifies clips. Close it where the program goes on without it.

    Args:
        manifest: what the archive says about itself.
        runtime: its model, on a device.
        decode_threads: clips decoded at once; default: one a core.
        sandbox: decode in child processes, which is what clips of strangers need; else in this process.

    Raises:
        RuntimeError: no decoding child can be started.
    """

    def __init__(
        self,
        manifest: Manifest,
        runtime: Runtime,
        decode_threads: int | None = None,
        *,
        sandbox: bool = False,
    ) -> None:
        self.manifest = manifest
        self.runtime = runtime
        threads = decode_threads or os.cpu_count() or 1
        self.sandbox = Sandbox(manifest.spec, manifest.limits, threads) if sandbox else None
        self._decoder: Decoder = self.sandbox.windows if self.sandbox else windows
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @classmethod
    def load(
        cls,
        directory: Path,
        device: torch.device | str = "cpu",
        decode_threads: int | None = None,
        *,
        sandbox: bool = False,
    ) -> Classifier:
        """From an unpacked archive, warmed up.

        Args:
            directory: of the archive.
            device: where the model runs.
            decode_threads, sandbox: see `Classifier`.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: the archive is not whole, or not for this device.
        """
        manifest = Manifest.load(directory)
        runtime = Runtime(directory, manifest, device)
        runtime.warm_up()
        return cls(manifest, runtime, decode_threads, sandbox=sandbox)

    def close(self) -> None:
        """End the decoding threads, and the children where there are any."""
        self._pool.shutdown(cancel_futures=True)
        if self.sandbox:
            self.sandbox.close()

    def reply(self, prediction: Prediction, top_k: int) -> dict[str, Any]:
        """The JSON object that answers a request."""
        return prediction.to_dict(self.manifest, self.runtime.form, top_k)

    def describe(self) -> dict[str, Any]:
        """What the archive is, and which of its forms is served here."""
        form = self.runtime.form
        serving = {"runtime": form.runtime, "precision": form.precision, "device": str(self.runtime.device)}
        return {
            **self.manifest.describe(),
            "serving": {**serving, "passed_over": self.runtime.passed_over},
            "sandbox": self.sandbox.describe() if self.sandbox else "off",
        }

    def classify(self, requests: Sequence[ClipRequest]) -> list[Prediction | ClipError]:
        """One result or error a request, in order. A bad clip costs no other clip its answer."""
        results: dict[int, Prediction | ClipError] = {}
        waiting: dict[Future[tuple[Decoded, float]], int] = {
            self._pool.submit(self._decode_timed, request): index for index, request in enumerate(requests)
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

    def _decode_timed(self, request: ClipRequest) -> tuple[Decoded, float]:
        start = time.perf_counter()
        found = self._decoder(request.video, self.manifest.spec, request.selection, self.manifest.limits)
        return next(found), (time.perf_counter() - start) * 1e3

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


def _batches(ready: dict[int, tuple[Decoded, float]], size: int) -> Iterator[dict[int, tuple[Decoded, float]]]:
    items = iter(ready.items())
    while batch := dict(islice(items, size)):
        yield batch


def _internal(message: str) -> ClipError:
    return ClipError("INTERNAL", 500, message, "This is the service's fault; its log says more.")
