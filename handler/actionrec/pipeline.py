"""Many requests -> many results, with overlapping stages. Knows no server.

    requests -> decode, side by side in threads   -> transform -> inference, a batch of views at a time
                (PyAV and OpenCV release the GIL)                  while the next ones are being decoded, and
             -> results                                            on a GPU copied

A request has one view or many. The views of all requests take turns, and each request is decoded at most one
batch ahead of the model. So memory grows neither with a video's length nor with its number of windows.

A request for which others would wait too long is put aside: it is answered STILL_WORKING while the work on it
goes on, and the same request, sent again, continues from there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from .allowance import Allowance
from .batch import Batch
from .call import Call
from .errors import ClipError
from .gate import Gate
from .jobs import Aside, Job
from .limits import Limits
from .manifest import Manifest
from .model.runtime import Runtime
from .nvdec import GpuDecoder
from .prefetch import Prefetch
from .reply import Prediction
from .request import ClipRequest
from .sampling import Selection
from .sandbox import Caller, Sandbox
from .spec import ClipSpec
from .video.decode import Decoded, Decoder, windows

logger = logging.getLogger(__name__)


class Classifier:
    """A loaded model that classifies clips.

    Args:
        manifest: the archive's description of itself.
        runtime: the archive's model, on a device.
        decode_threads: views decoded at once. Default: one per core.
        open_clips: requests that are decoded at once; the others wait until one is done. Default:
            `decode_threads`. With as many as a call has requests, none waits for another's last window.
        sandbox: decode in child processes, which videos of strangers need; else in this process.
            ``require``: fail where a defence of `sandbox.confine.REQUIRED` is missing.
        decoder: decodes where there is no sandbox. Default: `video.decode.windows`.
        answer_seconds: seconds that a call of `classify` may take; requests not done by then get an error.
        gpu_decoder: decodes what it takes, in this process. None: nothing does.

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
        gpu_decoder: GpuDecoder | None = None,
    ) -> None:
        self.decode_threads = threads = decode_threads or os.cpu_count() or 1
        """Views decoded at once."""
        self.manifest = manifest
        self.runtime = runtime
        self.answer_seconds = answer_seconds
        self.open_clips = open_clips or threads
        """Requests that are decoded at once."""
        self.aside = Aside(self.open_clips)
        """Requests that were put aside."""
        self.allowance = Allowance()
        """Who may make others wait, and for how long."""
        # One child per request: a request whose views wait for the model keeps its child.
        self.sandbox = (
            Sandbox(
                manifest.spec,
                manifest.limits,
                self.open_clips,
                require=sandbox == "require",
                memory=runtime.memory,
            )
            if sandbox
            else None
        )
        self._decoder: Decoder = decoder or windows
        self._gpu_decoder = gpu_decoder
        self._gate = Gate(threads)
        # A slow request keeps its thread, and so does one that was put aside.
        self._pool = ThreadPoolExecutor(2 * self.open_clips + threads, thread_name_prefix="decode")

    @classmethod
    def load(
        cls,
        directory: Path,
        device: torch.device | str = "cpu",
        *,
        decode_threads: int | None = None,
        open_clips: int | None = None,
        sandbox: bool | str = False,
        answer_seconds: float | None = None,
        decode: str = "cpu",
    ) -> Classifier:
        """Load an unpacked archive and warm it up.

        Args:
            directory: the unpacked archive.
            device: where the model runs.
            decode_threads, open_clips, sandbox, answer_seconds: see `Classifier`.
            decode: ``cpu``, or ``gpu``: what a GPU takes is decoded there, outside the sandbox.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: the archive is incomplete, or does not fit this device.
        """
        if decode not in ("cpu", "gpu"):
            raise ValueError(f"decode must be cpu or gpu, got {decode!r}")
        manifest = Manifest.load(directory)
        runtime = Runtime(directory, manifest, device)
        runtime.warm_up()
        wanted = decode == "gpu"
        gpu_decoder = GpuDecoder.load(manifest.spec, runtime.device, runtime.memory) if wanted else None
        return cls(
            manifest,
            runtime,
            decode_threads,
            open_clips=open_clips,
            sandbox=sandbox,
            answer_seconds=answer_seconds,
            gpu_decoder=gpu_decoder,
        )

    def close(self) -> None:
        """End the decoding threads and child processes."""
        self.aside.close()
        self._pool.shutdown(cancel_futures=True)
        if self.sandbox:
            self.sandbox.close()

    def reply(self, prediction: Prediction, top_k: int) -> dict[str, Any]:
        """The JSON object that answers a request, with its `top_k` best labels."""
        manifest, artifact = self.manifest, self.runtime.artifact
        model: dict[str, Any] = {
            "name": manifest.name,
            "version": manifest.version,
            "weights": manifest.weights,
            "runtime": artifact.runtime,
            "precision": artifact.precision,
        }
        if manifest.unsure_below is not None:
            model["unsure_below"] = manifest.unsure_below
        return prediction.to_dict(dict(enumerate(manifest.labels)), top_k, model)

    def describe(self) -> dict[str, Any]:
        """The archive's description, the artifact that is served here, and where and how videos are decoded."""
        artifact = self.runtime.artifact
        serving = {
            "runtime": artifact.runtime,
            "precision": artifact.precision,
            "device": str(self.runtime.device),
        }
        return {
            **self.manifest.describe(),
            "serving": {**serving, "passed_over": self.runtime.rejected},
            "sandbox": self.sandbox.describe() if self.sandbox else "off",
            "decode": self._gpu_decoder.describe() if self._gpu_decoder else "cpu",
        }

    @property
    def max_batch(self) -> int:
        """The most views in one batch of the model."""
        return self.runtime.max_batch

    def classify(
        self, requests: Sequence[ClipRequest], others_wait: Callable[[], bool] | None = None
    ) -> list[Prediction | ClipError]:
        """One result or error per request, in order. A bad clip costs no other clip its answer, nor its time.

        Args:
            requests: the clips to classify.
            others_wait: for servers: returns whether requests of other calls wait for this one; called now and
                then. With it, a late request is put aside where finished answers or other requests would wait
                for it. None: every request is waited for.
        """
        call = Call(self, requests, others_wait)
        try:
            return call.run()
        finally:
            call.close()

    def start(self, request: ClipRequest, news: SimpleQueue[None], *, last: bool = False) -> Job:
        """Start decoding a request.

        Args:
            request: one that was not put aside.
            news: gets an item after each step of decoding.
            last: let all others go first.
        """

        def decode(prefetch: Prefetch) -> Iterator[Decoded]:
            given = request.video, self.manifest.spec, request.selection, self.manifest.limits
            otherwise = on_cpu(prefetch, *given)
            return self._gpu_decoder.windows(*given, otherwise) if self._gpu_decoder else otherwise

        def on_cpu(
            prefetch: Prefetch, video: bytes, spec: ClipSpec, selection: Selection, limits: Limits
        ) -> Iterator[Decoded]:
            if self.sandbox is None:
                return self._decoder(video, spec, selection, limits)
            caller = Caller(
                request.client, lambda: prefetch.wanted, partial(setattr, prefetch, "slow", True), last
            )
            return self.sandbox.windows(video, spec, selection, limits, caller)

        def submit(prefetch: Prefetch, step: Callable[[], None]) -> None:
            self._pool.submit(self._step, prefetch, step, request.client)

        # One batch of views is enough to fill the next one while this one runs.
        prefetch = Prefetch(decode, submit, self.max_batch, lambda: news.put(None), slow=last)
        return Job(request, prefetch, self.runtime.head, self.manifest.spec)

    def _step(self, prefetch: Prefetch, step: Callable[[], None], client: str) -> None:
        with self._gate.place(client, slow=prefetch.slow):
            step()

    @property
    def in_flight(self) -> int:
        """Batches worth launching before the first one's results are fetched."""
        return self.runtime.in_flight

    def launch(self, views: Sequence[tuple[Job, Decoded]]) -> Batch:
        """Start the model on views of jobs. Returns at once on a GPU, and on a CPU when it is done."""
        return Batch(views, self.runtime)
