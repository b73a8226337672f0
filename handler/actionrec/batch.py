"""Views that the model is run on together, from their start to their jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from .jobs import Job
from .model.runtime import Runtime
from .video.decoded import Decoded

logger = logging.getLogger(__name__)


class Batch:
    """Views of one or several jobs, with the model started on them: at once on a CPU, soon on a GPU.

    Args:
        views: at most as many as the model takes together.
        runtime: the model.
    """

    def __init__(self, views: Sequence[tuple[Job, Decoded]], runtime: Runtime) -> None:
        self._views = views
        self._jobs = list({id(job): job for job, _ in views}.values())
        for job in self._jobs:
            job.batches += 1
        self._began = time.perf_counter()
        self._failed = False
        try:
            prepared = runtime.transform([view.frames for _, view in views])
            self._prepared = time.perf_counter()
            wanted = [row for row, (job, _) in enumerate(views) if job.wants_maps]
            self._running = runtime.compute(prepared, wanted)
        except Exception:
            self._fail()

    def finish(self) -> list[Job]:
        """Wait for the model and give each job the scores of its views. Returns the jobs whose batch failed."""
        for job in self._jobs:
            job.batches -= 1
        if self._failed:
            return self._jobs
        try:
            scores, maps = self._running.scores(), self._running.maps()
        except Exception:
            self._fail()
            return self._jobs
        end = time.perf_counter()
        for row, (job, view) in enumerate(self._views):
            job.add(view, scores[row], maps.get(row, ()))
        for job in self._jobs:
            job.transform_ms += (self._prepared - self._began) * 1e3
            job.inference_ms += (end - self._prepared) * 1e3
        return []

    def _fail(self) -> None:
        logger.exception("Inference failed on a batch of %d", len(self._views))
        self._failed = True
