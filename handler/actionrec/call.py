"""One call of `Classifier.classify`: the views of its requests take turns at the model, and no request waits
for a late one.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from .allowance import Allowance
from .errors import ClipError, internal
from .jobs import Aside, Job, still_working
from .reply import Prediction
from .request import ClipRequest
from .video.decoded import Decoded

_STEP_SECONDS = 0.02
"""Seconds between two checks whether others have waited too long."""
_TURNS_OF_OTHERS = 7
"""Views of this call's requests for each view of a request that was put aside."""


class Launched(Protocol):
    """A batch that the model works on."""

    def finish(self) -> list[Job]:
        """Wait for it and give each job the scores of its views. Returns the jobs whose batch failed."""


class Stages(Protocol):
    """What a call needs from a classifier: its limits, its memory of other calls, decoding and the model."""

    open_clips: int
    """Requests that are decoded at once."""
    answer_seconds: float | None
    """Seconds that a call may take; None: no limit."""
    aside: Aside
    allowance: Allowance

    @property
    def max_batch(self) -> int:
        """The most views in one batch of the model."""

    def start(self, request: ClipRequest, news: SimpleQueue[None], *, last: bool = False) -> Job:
        """Start decoding a request."""

    @property
    def in_flight(self) -> int:
        """Batches worth launching before the first one's results are fetched."""

    def launch(self, views: Sequence[tuple[Job, Decoded]]) -> Launched:
        """Start the model on views of jobs."""


class Call:
    """One call of `Classifier.classify`."""

    def __init__(
        self,
        classifier: Stages,
        requests: Sequence[ClipRequest],
        others_wait: Callable[[], bool] | None,
    ) -> None:
        self._classifier = classifier
        self._others_wait = others_wait
        self._waiting = deque(enumerate(requests))
        self._jobs: dict[int, Job] = {}
        self._launched: deque[Launched] = deque()
        self._results: dict[int, Prediction | ClipError] = {}
        self._news: SimpleQueue[None] = SimpleQueue()
        self._views_given: Counter[str] = Counter()
        self._turns = 0
        seconds = classifier.answer_seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def run(self) -> list[Prediction | ClipError]:
        """One result or error per request, in order."""
        classifier = self._classifier
        while self._waiting or self._jobs:
            while self._waiting and len(self._jobs) < classifier.open_clips:
                index, request = self._waiting.popleft()
                self._jobs[index] = classifier.aside.take(request) or self._start(request)
            for index in [index for index, job in self._jobs.items() if job.done]:
                self._results[index] = self._jobs.pop(index).result()
            if self._end is not None and time.monotonic() > self._end:
                self._give_up()
            looked = time.monotonic()
            views = self._next_views()
            if views:
                self._launched.append(classifier.launch(views))
                self._fetch(leave=classifier.in_flight - 1)
            elif self._launched:
                self._fetch(leave=0)
            elif self._jobs and not any(job.done for job in self._jobs.values()):
                with suppress(Empty):
                    self._news.get(timeout=_STEP_SECONDS)
            self._put_aside(time.monotonic() - looked)
        return [self._results[index] for index in sorted(self._results)]

    def _start(self, request: ClipRequest) -> Job:
        """Start a request. A client that has used up its allowance lets others go first from the beginning."""
        client = request.client
        last = bool(client) and self._others_wait is not None and not self._classifier.allowance.left(client)
        return self._classifier.start(request, self._news, last=last)

    def close(self) -> None:
        """Fetch the results that are still on their way, and stop the jobs that are left after an exception."""
        self._fetch(leave=0)
        for job in self._jobs.values():
            job.views.close()

    def _fetch(self, leave: int) -> None:
        """Fetch the results of the batches that were launched first, until so many are left."""
        while len(self._launched) > leave:
            for job in self._launched.popleft().finish():
                job.fail(internal("The model failed on this batch."))

    def _next_views(self) -> list[tuple[Job, Decoded]]:
        """Views that are ready, with their jobs. Clients that have had the fewest views come first."""
        batch: list[tuple[Job, Decoded]] = []
        while len(batch) < self._classifier.max_batch:
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
        """All jobs, in the order in which they are asked for the next view."""
        own = sorted(self._jobs.values(), key=lambda job: (self._views_given[_owner(job)], job.taken))
        aside = self._classifier.aside.running()
        return [*aside, *own] if self._turns % (_TURNS_OF_OTHERS + 1) == _TURNS_OF_OTHERS else [*own, *aside]

    def _put_aside(self, seconds: float) -> None:
        """Put late jobs aside where others have waited for them too long.

        Args:
            seconds: time since the last check.
        """
        if self._others_wait is None:
            return
        late = {index: job for index, job in self._jobs.items() if job.late and not job.done}
        if not late or len(late) < len(self._jobs) + len(self._waiting):
            return  # no other request of this call is done
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
        """Answer every request that is not done with an error: the call has taken too long."""
        late = [*self._jobs, *(index for index, _ in self._waiting)]
        self._results.update(dict.fromkeys(late, _too_long(self._classifier.answer_seconds or 0.0)))
        self.close()
        self._jobs.clear()
        self._waiting.clear()


def _owner(job: Job) -> str:
    """The name that a job's views are counted for: its client, or the job itself where no client is known."""
    return job.request.client or f"job {id(job)}"


def _too_long(seconds: float) -> ClipError:
    return ClipError(
        "OUT_OF_TIME",
        503,
        f"The answer was not ready after {seconds:g} s, the most that this server allows.",
        "Ask for fewer windows (views, crops, end_seconds, a larger stride_seconds), or try again later.",
    )
