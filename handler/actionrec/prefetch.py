"""One request's views, decoded ahead of the model by a few, in threads that all requests share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

from .video.decoded import Decoded


class Prefetch:
    """Takes views out of an iterator, one a step, each step in whatever thread is free.

    No thread waits for the model: at `depth` views that nobody has taken it stops, and goes on when one is.

    Args:
        decode: gives what decodes, `decode.windows` for one; closed when it ends, fails or is no longer
            wanted. It is given this object: a long step may ask it whether its result is `wanted`, and tell it
            that it is `slow`.
        submit: has a step of this object run in another thread, soon.
        depth: views to have ready, at least 1.
        tell: called after each step, in its thread.
        slow: it is taken for slow from its beginning.
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
        """Whether it has taken much more than an ordinary clip does, and lets others go first."""
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
        """Why there are no more views, where that is a failure; set before `done` is."""
        self.decode_ms = 0.0
        """Time spent decoding so far."""
        submit(self, self._step)

    @property
    def ready(self) -> bool:
        """Whether a view is there for the model."""
        with self._lock:
            return bool(self._ready)

    def step_seconds(self) -> float:
        """How long the step under way has taken so far; 0 where none is, or it waits for a place."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for what is still to come."""
        return not self._closed

    @property
    def done(self) -> bool:
        """Whether nothing will come any more."""
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
        """Decode no more; a step under way ends first, and nobody waits for it."""
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
