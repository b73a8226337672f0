"""Many requests -> many results, stages overlapped. Knows no server.

    requests -> decode, side by side in threads   -> transform -> inference, a batch of views at a time
                (PyAV and OpenCV let go of the GIL)               while the next ones are being decoded
             -> results

A request may have one view or many. The views of all requests take turns, and each request's decoding is a
batch ahead of the model at most, so memory grows neither with a video nor with its number of windows.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch

from .ahead import Ahead
from .decode import Decoded, Decoder, windows
from .errors import ClipError
from .manifest import Manifest
from .request import ClipRequest
from .result import Prediction, Timings, WindowScores
from .runtime import Runtime, Scores
from .sampling import Selection
from .sandbox import Sandbox

logger = logging.getLogger(__name__)


class Classifier:
    """A loaded model that classifies clips.

    Args:
        manifest: what the archive says about itself.
        runtime: its model, on a device.
        decode_threads: views decoded at once; default: one a core.
        open_clips: requests whose decoding is under way at once, the others wait for the end of one; default:
            `decode_threads`. With as many as a call brings requests, none waits for another's last window.
        sandbox: decode in child processes, which is what clips of strangers need; else in this process.
        decoder: what decodes; default: as `sandbox` says.
        answer_seconds: what a call of `classify` may take; requests that are not done by then get an error.

    Raises:
        RuntimeError: no decoding child can be started.
    """

    def __init__(
        self,
        manifest: Manifest,
        runtime: Runtime,
        decode_threads: int | None = None,
        *,
        open_clips: int | None = None,
        sandbox: bool = False,
        decoder: Decoder | None = None,
        answer_seconds: float | None = None,
    ) -> None:
        threads = decode_threads or os.cpu_count() or 1
        self.manifest = manifest
        self.runtime = runtime
        self.answer_seconds = answer_seconds
        self._open_clips = open_clips or threads
        # A child for each open clip: one whose views wait for the model keeps its child.
        self.sandbox = Sandbox(manifest.spec, manifest.limits, self._open_clips) if sandbox else None
        self._decoder: Decoder = decoder or (self.sandbox.windows if self.sandbox else windows)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @classmethod
    def load(
        cls,
        directory: Path,
        device: torch.device | str = "cpu",
        *,
        open_clips: int | None = None,
        sandbox: bool = False,
        answer_seconds: float | None = None,
    ) -> Classifier:
        """From an unpacked archive, warmed up.

        Args:
            directory: of the archive.
            device: where the model runs.
            open_clips, sandbox, answer_seconds: see `Classifier`.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: the archive is not whole, or not for this device.
        """
        manifest = Manifest.load(directory)
        runtime = Runtime(directory, manifest, device)
        runtime.warm_up()
        return cls(manifest, runtime, open_clips=open_clips, sandbox=sandbox, answer_seconds=answer_seconds)

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
        end = None if self.answer_seconds is None else time.monotonic() + self.answer_seconds
        news: SimpleQueue[None] = SimpleQueue()
        results: dict[int, Prediction | ClipError] = {}
        waiting = deque(enumerate(requests))
        jobs: dict[int, _Job] = {}
        try:
            while waiting or jobs:
                while waiting and len(jobs) < self._open_clips:
                    index, request = waiting.popleft()
                    jobs[index] = self._start(request, news)
                for index in [index for index, job in jobs.items() if job.views.done]:
                    results[index] = jobs.pop(index).result()
                if end is not None and time.monotonic() > end:
                    late = [*jobs, *(index for index, _ in waiting)]
                    results.update(dict.fromkeys(late, _too_long(self.answer_seconds or 0.0)))
                    break
                batch = self._next_batch(jobs)
                if batch:
                    for index in self._infer(batch, jobs):
                        results[index] = _internal("The model failed on this batch.")
                        jobs.pop(index).views.close()
                elif jobs and not any(job.views.done for job in jobs.values()):
                    with suppress(Empty):
                        news.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
        finally:
            for job in jobs.values():
                job.views.close()
        return [results[index] for index in range(len(requests))]

    def _start(self, request: ClipRequest, news: SimpleQueue[None]) -> _Job:
        views = self._decoder(request.video, self.manifest.spec, request.selection, self.manifest.limits)
        # One batch of them is enough to fill the next one while this one runs.
        ahead = Ahead(views, self._pool.submit, self.runtime.max_batch, lambda: news.put(None))
        return _Job(request.selection, ahead)

    def _next_batch(self, jobs: Mapping[int, _Job]) -> list[tuple[int, Decoded]]:
        """Views that are ready, with their requests' indices; those that have had the fewest come first."""
        batch: list[tuple[int, Decoded]] = []
        while len(batch) < self.runtime.max_batch:
            for index in sorted(jobs, key=lambda index: jobs[index].taken):
                view = jobs[index].take()
                if view is not None:
                    batch.append((index, view))
                    break
            else:
                break
        return batch

    def _infer(self, batch: Sequence[tuple[int, Decoded]], jobs: Mapping[int, _Job]) -> set[int]:
        """Run the model and give each request its scores; returns the requests that it failed on."""
        owners = {index for index, _ in batch}
        try:
            start = time.perf_counter()
            pathways = self.runtime.transform([view.frames for _, view in batch])
            packed = time.perf_counter()
            scores = self.runtime.scores(pathways)
            end = time.perf_counter()
        except Exception:
            logger.exception("Inference failed on a batch of %d", len(batch))
            return owners
        for (index, view), row in zip(batch, scores, strict=True):
            jobs[index].add(view, row)
        for index in owners:
            jobs[index].transform_ms += (packed - start) * 1e3
            jobs[index].inference_ms += (end - packed) * 1e3
        return set()


@dataclass(slots=True)
class _Job:
    """A request on its way."""

    selection: Selection
    views: Ahead
    taken: int = 0
    """Views that the model was given so far."""
    transform_ms: float = 0.0
    inference_ms: float = 0.0
    windows: dict[int, tuple[Decoded, list[Scores]]] = field(default_factory=dict)
    """Number of a window -> where it is from, without frames, and the scores of its crops."""

    def take(self) -> Decoded | None:
        """The next view for the model; None where none is ready."""
        while (view := self.views.take()) is not None:
            if not view.missing:
                self.taken += 1
                return view
            self.windows[view.window] = (_without_frames(view), [])
        return None

    def add(self, view: Decoded, scores: Scores) -> None:
        """Note what the model says of a view."""
        self.windows.setdefault(view.window, (_without_frames(view), []))[1].append(scores)

    def result(self) -> Prediction | ClipError:
        """When all is done: the answer, or why there is none."""
        error = self.views.error
        if isinstance(error, ClipError):
            return error
        found = [self.windows[number] for number in sorted(self.windows)]
        if error is not None or not any(rows for _, rows in found):
            logger.error("Decoding failed in a way that is not known", exc_info=error)
            return _internal("The clip could not be decoded.")
        return Prediction(
            windows=tuple(
                WindowScores(clip, np.mean(rows, axis=0, dtype=np.float32) if rows else None)
                for clip, rows in found
            ),
            crops=self.selection.crops,
            timeline=self.selection.stride_seconds is not None,
            timings_ms=Timings(self.views.decode_ms, self.transform_ms, self.inference_ms),
        )


def _without_frames(view: Decoded) -> Decoded:
    return replace(view, frames=view.frames[:0].copy())


def _too_long(seconds: float) -> ClipError:
    return ClipError(
        "OUT_OF_TIME",
        503,
        f"The answer was not ready after the {seconds:g} s that this server takes for one.",
        "Ask for fewer windows (views, crops, end_seconds, a larger stride_seconds), or try again later.",
    )


def _internal(message: str) -> ClipError:
    return ClipError("INTERNAL", 500, message, "This is the service's fault; its log says more.")
