"""The views of one request, decoded a few ahead of the model, in threads that all requests share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

from .video.decoded import Decoded


class Prefetch:
    """Takes views from an iterator: one view per step, each step in whichever thread is free.

    No thread waits for the model: steps stop when `depth` views are ready, and go on when one is taken.

    Args:
        decode: returns the iterator, for example `decode.windows`; it is closed when it ends, fails or is no
            longer wanted. `decode` gets this object: a long step may read `wanted`, and set `slow`.
        submit: runs a step of this object in another thread, soon.
        depth: views to have ready, at least 1.
        tell: called after each step, in its thread.
        slow: whether it counts as slow from its beginning.
    """

    def __init__(
        self,
        decode: Callable[[Prefetch], Iterator[Decoded]],
        submit: Callable[[Prefetch, Callable[[], None]], object],
        depth: int,
        tell: Callable[[], None],
        *,
        slow: bool = False,
    ) -> None:
        self._closed = False
        self.slow = slow
        """Whether it takes much longer than an ordinary clip, and lets others go first."""
        self._step_began: float | None = None
        self._views = decode(self)
        self._submit = submit
        self._depth = depth
        self._tell = tell
        self._lock = threading.Lock()
        self._ready: deque[Decoded] = deque()
        self._ended = False
        self._stepping = True
        self.error: Exception | None = None
        """The exception that decoding ended with, if any; set before `done` is."""
        self.decode_ms = 0.0
        """Milliseconds spent on decoding so far."""
        submit(self, self._step)

    @property
    def ready(self) -> bool:
        """Whether a view is ready for the model."""
        with self._lock:
            return bool(self._ready)

    def step_seconds(self) -> float:
        """Seconds that the current step has taken so far; 0 where none runs, or it waits for a place."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for more views."""
        return not self._closed

    @property
    def done(self) -> bool:
        """Whether all views were taken and no more will come."""
        with self._lock:
            return self._ended and not self._ready

    def take(self) -> Decoded | None:
        """The next view; None where none is ready."""
        with self._lock:
            if not self._ready:
                return None
            view = self._ready.popleft()
            if not (self._stepping or self._ended):
                self._stepping = True
                self._submit(self, self._step)
            return view

    def close(self) -> None:
        """Stop decoding. A step that runs goes on to its end; this call does not wait for it."""
        with self._lock:
            self._closed = True
            self._ready.clear()
            if not self._stepping:
                self._end()

    def _step(self) -> None:
        started = time.perf_counter()
        self._step_began = time.monotonic()
        view = None
        try:
            view = next(self._views, None)
        except Exception as error:
            self.error = error
        self._step_began = None
        with self._lock:
            self.decode_ms += (time.perf_counter() - started) * 1e3
            if view is not None and not self._closed:
                self._ready.append(view)
                self._stepping = len(self._ready) < self._depth
                if self._stepping:
                    self._submit(self, self._step)
            else:
                self._stepping = False
                self._end()
        self._tell()

    def _end(self) -> None:
        self._ended = True
        if isinstance(self._views, Generator):
            self._views.close()
