"""Requests that are being answered, and those that were put aside."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .answer import Answer, explain, window
from .errors import ClipError, internal
from .explanation import Explanation
from .head import Floats, Head
from .prefetch import Prefetch
from .reply import Prediction, Scores, Timings
from .request import BEST_LABEL, ClipRequest
from .spec import ClipSpec
from .video.decoded import Decoded

logger = logging.getLogger(__name__)

LATE_SECONDS = 1.0
"""Seconds by the clock that decoding a window may take, on a machine with other work, before the request is
late."""
_GOES_ON_SECONDS = 3.0
"""Seconds that the work on a request goes on after it was put aside, unless it is sent again..."""
_KEPT_SECONDS = 15.0
"""... and seconds that the finished part of it is kept."""


@dataclass(slots=True)
class Job:
    """A request that is being answered.

    Args:
        request: what is wanted.
        views: its decoded views.
        head: the model's.
        spec: what the model eats.
    """

    request: ClipRequest
    views: Prefetch
    head: Head
    spec: ClipSpec
    batches: int = 0
    """Batches with views of it that the model works on."""
    taken: int = 0
    """Views that the model was given so far."""
    transform_ms: float = 0.0
    inference_ms: float = 0.0
    error: ClipError | None = None
    """Why there is no answer, where decoding is not the reason."""
    windows: dict[int, tuple[Decoded, list[Answer]]] = field(default_factory=dict)
    """Number of a window -> its `Decoded` without frames, and the answers to its crops."""

    def take(self) -> Decoded | None:
        """The next view for the model; None where none is ready."""
        while (view := self.views.take()) is not None:
            if not view.missing:
                self.taken += 1
                return view
            self.windows[view.window] = (_without_frames(view), [])
        return None

    @property
    def wants_maps(self) -> bool:
        """Whether the feature maps of its views are wanted."""
        return self.request.embedding or self.request.explain is not None

    def add(self, view: Decoded, scores: Scores, maps: Sequence[Floats] = ()) -> None:
        """Keep what the model gave for a view: scores, and maps where they are wanted."""
        request, decoded = self.request, _without_frames(view)
        embedding = self.head.embedding(maps) if request.embedding else None
        kept = maps if request.explain is not None else ()
        answer = Answer(decoded, scores, embedding, kept)
        self.windows.setdefault(view.window, (decoded, []))[1].append(answer)

    def fail(self, error: ClipError) -> None:
        """Stop the job with an error."""
        self.error = error
        self.views.close()

    @property
    def done(self) -> bool:
        """Whether `result` can be called."""
        return self.error is not None or (self.views.done and not self.batches)

    @property
    def late(self) -> bool:
        """Whether it wants another turn at the model, or takes longer to decode than an ordinary clip."""
        again = self.taken > 0 and self.views.ready
        return again or self.views.slow or self.views.step_seconds() > LATE_SECONDS

    def result(self) -> Prediction | ClipError:
        """The answer, or why there is none. Call it when the job is `done`."""
        error = self.error or self.views.error
        if isinstance(error, ClipError):
            return error
        found = [self.windows[number] for number in sorted(self.windows)]
        answers = [answer for _, some in found for answer in some]
        if error is not None or not answers:
            logger.error("Decoding failed for an unknown reason", exc_info=error)
            return internal("The clip could not be decoded.")
        return Prediction(
            windows=tuple(window(decoded, some) for decoded, some in found),
            crops=self.request.selection.crops,
            timeline=self.request.selection.stride_seconds is not None,
            timings_ms=Timings(self.views.decode_ms, self.transform_ms, self.inference_ms),
            embedding_in_base64=self.request.embedding_in_base64,
            explanation=self._explanation(answers),
        )

    def _explanation(self, answers: Sequence[Answer]) -> Explanation | None:
        if self.request.explain is None:
            return None
        label = None if self.request.explain == BEST_LABEL else self.request.explain
        return explain(self.head, self.spec, self.request.selection.crops, answers, label)


class Aside:
    """Jobs that were put aside because others would have waited for them. The same request, sent again,
    continues its job. Thread-safe.

    Args:
        places: the most jobs; one client has at most half of them. Beyond that the oldest are given up.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, tuple[Job, float]] = OrderedDict()

    def put(self, job: Job) -> None:
        """Put a job aside."""
        key = _key(job.request)
        with self._lock:
            same, _ = self._jobs.pop(key, (None, 0.0))
            self._jobs[key] = (job, time.monotonic())
        if same is not None:
            same.views.close()
        self._clear_up()

    def take(self, request: ClipRequest) -> Job | None:
        """Remove and return the job of the same request; None where it is no longer kept."""
        with self._lock:
            if not self._jobs:  # nearly always, and it saves the hash
                return None
        key = _key(request)
        with self._lock:
            job, _ = self._jobs.pop(key, (None, 0.0))
            return job

    def running(self) -> list[Job]:
        """The jobs whose work goes on, the oldest first."""
        self._clear_up()
        begun = time.monotonic() - _GOES_ON_SECONDS
        with self._lock:
            return [job for job, since in self._jobs.values() if since > begun and not job.done]

    def close(self) -> None:
        """Give up all jobs."""
        self._clear_up(everything=True)

    def _clear_up(self, *, everything: bool = False) -> None:
        """Give up jobs that are too old or too many."""
        with self._lock:
            newest_first = list(reversed(self._jobs.items()))
            kept: dict[str, int] = {}
            for place, (key, (job, since)) in enumerate(newest_first):
                client = job.request.client
                kept[client] = kept.get(client, 0) + 1
                greedy = client and kept[client] > max(1, self._places // 2)
                old = time.monotonic() - since > _KEPT_SECONDS
                if everything or place >= self._places or greedy or old:
                    del self._jobs[key]
                    job.views.close()


def still_working() -> ClipError:
    """The answer to a request that is put aside."""
    return ClipError(
        "STILL_WORKING",
        503,
        "This request takes longer than others can wait. The work on it goes on.",
        "Send the same request again in a second: it continues from where it is.",
    )


def _key(request: ClipRequest) -> str:
    """A key that is equal for equal bytes, windows, crops and client."""
    digest = hashlib.sha256(request.video).hexdigest()
    return f"{digest} {request.selection} {request.client}"


def _without_frames(view: Decoded) -> Decoded:
    return replace(view, frames=view.frames[:0].copy())
