"""The main loop of a live run: take the newest window, send it, report what came back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from actionrec.spec import ClipSpec

from ..errors import ServerError
from . import clip
from .events import Answered, Event, Failed, Gap, Summary, Tally
from .reader import Reader
from .server import Server
from .smooth import Smoother
from .window import SampledWindow

_POLL_SECONDS = 0.2

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for, and when to stop."""

    spec: ClipSpec
    labels: int | None
    """Of the model, where that is known."""
    top_k: int = 5
    coding: clip.Coding = clip.EXACT
    smooth_seconds: float | None = None
    count: int | None = None
    """Results after which it ends."""
    max_seconds: float | None = None
    """On the wall clock, after which it ends."""


class LiveRun:
    """One run over a stream.

    Args:
        reader: of the source; it must be running.
        server: the model.
        plan: what to ask for.
        emit: called with every event, in order.
    """

    def __init__(self, reader: Reader, server: Server, plan: Plan, emit: Emit) -> None:
        self._reader = reader
        self._server = server
        self._plan = plan
        self._emit = emit
        self._smoother = Smoother(plan.smooth_seconds) if plan.smooth_seconds else None
        self._began = time.monotonic()
        self._tally = Tally()
        self.last_error: ServerError | None = None
        """Why the last window that got no answer got none."""

    def run(self) -> str:
        """Answer window after window until the run is over; returns why it is."""
        while True:
            if self._plan.count is not None and self.results >= self._plan.count:
                return f"{self._plan.count} results, as asked for"
            elapsed = time.monotonic() - self._began
            if self._plan.max_seconds is not None and elapsed >= self._plan.max_seconds:
                return f"{self._plan.max_seconds:g} s, as asked for"
            item = self._reader.take(_POLL_SECONDS)
            if isinstance(item, SampledWindow):
                self._report(self._answer(item))
            elif item is not None:
                self._report(item)
            elif self._reader.finished:
                return "the source broke" if self._reader.error else "the source ended"

    @property
    def results(self) -> int:
        """Windows that were answered."""
        return self._tally.results

    @property
    def started(self) -> bool:
        """Whether the source was ever open."""
        return self._reader.frames > 0

    def summary(self, reason: str) -> Summary:
        """The run in numbers, up to now."""
        return Summary(
            seconds=time.monotonic() - self._began,
            **asdict(self._tally),
            frames=self._reader.frames,
            frames_dropped=self._reader.frames_dropped,
            windows_skipped=self._reader.windows_skipped,
            reason=reason,
        )

    def _report(self, event: Event) -> None:
        self._tally.add(event)
        if isinstance(event, Gap) and self._smoother is not None:
            self._smoother.reset()
        self._emit(event)

    def _answer(self, window: SampledWindow) -> Answered | Failed:
        # A mean over windows is made of all labels, not only of the best.
        top_k = self._plan.labels or self._plan.top_k
        top_k = top_k if self._smoother is not None else min(self._plan.top_k, top_k)
        started = time.monotonic()
        data = clip.encode(window.frames, self._plan.spec, self._plan.coding)
        encoded = time.monotonic()
        try:
            reply = self._server.classify(data, top_k)
        except ServerError as error:
            self.last_error = error
            span = window.start_seconds, window.end_seconds
            return Failed(*span, error.code, error.status, error.message, error.hint, time.time())
        answered = time.monotonic()
        timings = {"encode": 1e3 * (encoded - started), "request": 1e3 * (answered - encoded)}
        predictions = reply["predictions"]
        if self._smoother is not None:
            predictions = self._smoother.add(window.end_seconds, predictions)
        wall = time.time() - answered
        return Answered(
            start_seconds=window.start_seconds,
            end_seconds=window.end_seconds,
            start_at=wall + window.first_arrived,
            end_at=wall + window.arrived,
            predictions=predictions[: self._plan.top_k],
            smoothed=self._smoother is not None,
            age_seconds=answered - window.arrived,
            lag_seconds=window.lag_seconds,
            source_frames=window.source_frames,
            frames_dropped=self._reader.frames_dropped,
            windows_skipped=self._reader.windows_skipped,
            sent_bytes=len(data),
            timings_ms={**reply.get("timings_ms", {}), **timings},
            warnings=[*reply.get("warnings", []), *self._warnings(window)],
        )

    def _warnings(self, window: SampledWindow) -> list[dict[str, Any]]:
        """Warnings that the server cannot give, since it gets exactly the frames that the model eats."""
        spec = self._plan.spec
        covered = window.end_seconds - window.start_seconds
        if covered < 0.95 * spec.window_seconds:
            message = f"The window covers {covered:.3f} s of the model's {spec.window_seconds:.3f} s."
            return [{"code": "SHORT_WINDOW", "message": message}]
        if window.source_frames < spec.num_frames:
            message = f"The window has {window.source_frames} frames; some stand for several of the model's."
            return [{"code": "LOW_FRAME_RATE", "message": message}]
        return []
