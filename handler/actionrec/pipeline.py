"""Many requests -> many results, stages overlapped. Knows no server.

    requests -> decode, side by side in threads   -> transform -> inference, a batch of views at a time
                (PyAV and OpenCV let go of the GIL)               while the next ones are being decoded
             -> results

A request may have one view or many. The views of all requests take turns, and each request's decoding is a
batch ahead of the model at most, so memory grows neither with a video nor with its number of windows.

A request that takes longer than others can wait for it is put aside: it is answered STILL_WORKING, the work on
it goes on, and the same request, sent again, has what was done so far.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch

from .ahead import Ahead
from .allowance import Allowance
from .decode import Decoded, Decoder, windows
from .errors import ClipError
from .gate import Gate
from .jobs import Aside, Job, internal, still_working
from .manifest import Manifest
from .request import ClipRequest
from .result import Prediction
from .runtime import Runtime
from .sandbox import Sandbox

logger = logging.getLogger(__name__)

_STEP_SECONDS = 0.02
"""Between two looks at whether others wait for too long."""
_PATIENCE_SECONDS = (0.05, 0.5)
"""At least and at most: that a batch may take before any of its requests is late. Between them, twice what a
request of one view usually takes."""
_TURNS_OF_OTHERS = 3
"""Views of the requests at hand for one of those that were put aside."""


class Classifier:
    """A loaded model that classifies clips.

    Args:
        manifest: what the archive says about itself.
        runtime: its model, on a device.
        decode_threads: views decoded at once; default: one a core.
        open_clips: requests whose decoding is under way at once, the others wait for the end of one; default:
            `decode_threads`. With as many as a call brings requests, none waits for another's last window.
        sandbox: decode in child processes, which is what clips of strangers need; else in this process.
            ``require``: not without the defences that matter (`sandbox.confine.REQUIRED`).
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
        sandbox: bool | str = False,
        decoder: Decoder | None = None,
        answer_seconds: float | None = None,
    ) -> None:
        threads = decode_threads or os.cpu_count() or 1
        self.manifest = manifest
        self.runtime = runtime
        self.answer_seconds = answer_seconds
        self.open_clips = open_clips or threads
        """Requests whose decoding is under way at once."""
        self.aside = Aside(self.open_clips)
        """Requests that were put aside."""
        self.allowance = Allowance()
        """Who may have others wait for it."""
        self.patience_seconds = _PATIENCE_SECONDS[1]
        """That a batch may take before any of its requests is late."""
        # A child for each open clip: one whose views wait for the model keeps its child.
        self.sandbox = (
            Sandbox(manifest.spec, manifest.limits, self.open_clips, require=sandbox == "require")
            if sandbox
            else None
        )
        self._decoder: Decoder = decoder or windows
        self._gate = Gate(threads)
        # A slow clip keeps its thread, and one that was put aside too.
        self._pool = ThreadPoolExecutor(2 * self.open_clips + threads, thread_name_prefix="decode")

    @classmethod
    def load(
        cls,
        directory: Path,
        device: torch.device | str = "cpu",
        *,
        open_clips: int | None = None,
        sandbox: bool | str = False,
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
        self.aside.close()
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

    def classify(
        self, requests: Sequence[ClipRequest], others_wait: Callable[[], bool] = lambda: False
    ) -> list[Prediction | ClipError]:
        """One result or error a request, in order. A bad clip costs no other clip its answer, nor its time.

        Args:
            requests: what to classify.
            others_wait: says whether requests beyond these wait for this call's end; asked now and then.
        """
        call = _Call(self, requests, others_wait)
        try:
            return call.run()
        finally:
            call.close()

    def start(self, request: ClipRequest, news: SimpleQueue[None]) -> Job:
        """Have the decoding of a request begin.

        Args:
            request: that was not put aside.
            news: is told when there is a view more.
        """

        def decode(wanted: Callable[[], bool]) -> Iterator[Decoded]:
            spec, limits = self.manifest.spec, self.manifest.limits
            if self.sandbox is None:
                return self._decoder(request.video, spec, request.selection, limits)
            return self.sandbox.windows(request.video, spec, request.selection, limits, wanted)

        def submit(step: Callable[[], None]) -> None:
            self._pool.submit(self._step, step, request.client)

        # One batch of them is enough to fill the next one while this one runs.
        ahead = Ahead(decode, submit, self.runtime.max_batch, lambda: news.put(None))
        return Job(request, ahead)

    def _step(self, step: Callable[[], None], client: str) -> None:
        with self._gate.place(client):
            step()

    def infer(self, batch: Sequence[tuple[Job, Decoded]]) -> list[Job]:
        """Run the model and give each job its scores; returns the jobs that it failed on."""
        jobs = list({id(job): job for job, _ in batch}.values())
        try:
            start = time.perf_counter()
            pathways = self.runtime.transform([view.frames for _, view in batch])
            packed = time.perf_counter()
            scores = self.runtime.scores(pathways)
            end = time.perf_counter()
        except Exception:
            logger.exception("Inference failed on a batch of %d", len(batch))
            return jobs
        for (job, view), row in zip(batch, scores, strict=True):
            job.add(view, row)
        for job in jobs:
            job.transform_ms += (packed - start) * 1e3
            job.inference_ms += (end - packed) * 1e3
        return []


class _Call:
    """One call of `Classifier.classify`."""

    def __init__(
        self, classifier: Classifier, requests: Sequence[ClipRequest], others_wait: Callable[[], bool]
    ) -> None:
        self._classifier = classifier
        self._others_wait = others_wait
        self._waiting = deque(enumerate(requests))
        self._jobs: dict[int, Job] = {}
        self._results: dict[int, Prediction | ClipError] = {}
        self._news: SimpleQueue[None] = SimpleQueue()
        self._views_given: Counter[str] = Counter()
        self._turns = 0
        self._began = time.monotonic()
        seconds = classifier.answer_seconds
        self._end = None if seconds is None else self._began + seconds

    def run(self) -> list[Prediction | ClipError]:
        classifier = self._classifier
        while self._waiting or self._jobs:
            while self._waiting and len(self._jobs) < classifier.open_clips:
                index, request = self._waiting.popleft()
                self._jobs[index] = classifier.aside.take(request) or classifier.start(request, self._news)
            for index in [index for index, job in self._jobs.items() if job.done]:
                self._answer(index)
            if self._end is not None and time.monotonic() > self._end:
                self._give_up()
            looked = time.monotonic()
            batch = self._next_batch()
            if batch:
                for job in classifier.infer(batch):
                    job.fail(internal("The model failed on this batch."))
            elif self._jobs and not any(job.done for job in self._jobs.values()):
                with suppress(Empty):
                    self._news.get(timeout=_STEP_SECONDS)
            self._put_aside(time.monotonic() - looked)
        return [self._results[index] for index in sorted(self._results)]

    def close(self) -> None:
        """Give up what an error has left over."""
        for job in self._jobs.values():
            job.views.close()

    def _answer(self, index: int) -> None:
        job = self._jobs.pop(index)
        self._results[index] = job.result()
        if job.taken == 1:
            least, most = _PATIENCE_SECONDS
            usual = 2 * (time.monotonic() - self._began)
            classifier = self._classifier
            classifier.patience_seconds += 0.1 * (min(max(usual, least), most) - classifier.patience_seconds)

    def _next_batch(self) -> list[tuple[Job, Decoded]]:
        """Views that are ready, with their jobs; those of whoever has had the fewest come first."""
        batch: list[tuple[Job, Decoded]] = []
        while len(batch) < self._classifier.runtime.max_batch:
            for job in self._in_turn():
                view = job.take()
                if view is not None:
                    batch.append((job, view))
                    self._views_given[_owner(job)] += 1
                    self._turns += 1
                    break
            else:
                break
        return batch

    def _in_turn(self) -> list[Job]:
        """All jobs, in the order in which the next view is taken from them."""
        own = sorted(self._jobs.values(), key=lambda job: (self._views_given[_owner(job)], job.taken))
        aside = self._classifier.aside.running()
        return [*aside, *own] if self._turns % (_TURNS_OF_OTHERS + 1) == _TURNS_OF_OTHERS else [*own, *aside]

    def _put_aside(self, seconds: float) -> None:
        """Put late jobs aside where others have waited for them for too long.

        Args:
            seconds: that have gone by since the last look.
        """
        if time.monotonic() - self._began < self._classifier.patience_seconds:
            return
        late = {index: job for index, job in self._jobs.items() if job.late and not job.done}
        if not late or len(late) < len(self._jobs) + len(self._waiting):
            return  # the others are not done either
        if not (self._results or self._others_wait()):
            return
        allowance = self._classifier.allowance
        for index, job in late.items():
            client = job.request.client
            allowance.spend(client, seconds / len(late))
            if not allowance.left(client):
                del self._jobs[index]
                self._classifier.aside.put(job)
                self._results[index] = still_working()

    def _give_up(self) -> None:
        """Whatever is not done by now has taken too long."""
        late = [*self._jobs, *(index for index, _ in self._waiting)]
        self._results.update(dict.fromkeys(late, _too_long(self._classifier.answer_seconds or 0.0)))
        self.close()
        self._jobs.clear()
        self._waiting.clear()


def _owner(job: Job) -> str:
    """Who a job's views are counted for: its client, or where that is not known itself."""
    return job.request.client or f"job {id(job)}"


def _too_long(seconds: float) -> ClipError:
    return ClipError(
        "OUT_OF_TIME",
        503,
        f"The answer was not ready after the {seconds:g} s that this server takes for one.",
        "Ask for fewer windows (views, crops, end_seconds, a larger stride_seconds), or try again later.",
    )
