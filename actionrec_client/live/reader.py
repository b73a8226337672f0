"""A thread that reads a source, connects again when it breaks, and keeps the newest window at hand."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from actionrec.spec import ClipSpec
from actionrec.video.resize import Resizer, rounded
from av.video.frame import VideoFrame

from .events import Event, Gap, Lost, Opened
from .source import Arrival, Connection, Source, SourceError
from .window import RollingWindow, SampledWindow

logger = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 15.0
# When so many events wait, nobody reads them; the oldest are dropped.
_MOST_EVENTS = 1000

OnFrame = Callable[[VideoFrame, float], None]
"""Called for every frame that is kept, with the stream's time in seconds; it must return at once."""


class Reader:
    """Reads a source in a thread of its own. Use it in a ``with`` statement.

    There is room for one window. When the next one is complete before it was taken, it is skipped.

    Args:
        source: what to read.
        spec: what the model eats.
        interval_seconds: from one window to the next.
        give_up_seconds: time without a frame after which a source that broke is given up; None: never.
        on_frame: called with every frame that is kept.
    """

    def __init__(
        self,
        source: Source,
        spec: ClipSpec,
        interval_seconds: float,
        give_up_seconds: float | None = None,
        on_frame: OnFrame | None = None,
    ) -> None:
        self._source = source
        self._spec = spec
        self._interval = interval_seconds
        self._give_up = give_up_seconds
        self._on_frame = on_frame
        self._resize = Resizer(spec)
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._window: SampledWindow | None = None
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._piece: RollingWindow | None = None
        self._began: float | None = None
        self._last_arrived = 0.0
        self._done = False
        # FFmpeg may hang in a driver; a daemon does not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="read", daemon=True)
        self.error: SourceError | None = None
        """Why reading failed; None where it did not."""
        self.frames = 0
        """Taken into windows, since the start."""
        self.windows_skipped = 0
        """Windows that were complete but not taken in time, since the start."""
        self._dropped_before = 0
        self._connection: Connection | None = None

    @property
    def frames_dropped(self) -> int:
        """Frames that came and were not used, since the start."""
        connection = self._connection
        return self._dropped_before + (connection.dropped if connection else 0)

    def take(self, timeout_seconds: float) -> Event | SampledWindow | None:
        """The next event; the newest window where there is no event; None when the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._window or self._done, timeout_seconds)
            if self._events:
                return self._events.popleft()
            window, self._window = self._window, None
            return window

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._done and not self._events and self._window is None

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # A read that waits for the network ends with its own time-out only; that is not waited for.
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        try:
            self._read_again_and_again()
        except SourceError as error:
            self.error = error
        except Exception:
            logger.exception("Reading failed in a way that is not known")
            self.error = SourceError("Reading failed in a way that is not known.", "The log says more.")
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _read_again_and_again(self) -> None:
        attempts = 0
        reason = ""
        while not self._stop.is_set():
            taken = self.frames
            failure, finite = self._read_once(reason, attempts)
            if self._stop.is_set() or (failure is None and finite and self._began is not None):
                return
            if failure is None:
                hint = "It had no frame." if self._began is None else ""
                failure = SourceError(f"{self._source.shown} ended.", hint)
            if self._began is None or finite:
                raise failure
            if self.frames > taken:
                attempts, reason = 0, failure.message
                self._say(Lost(reason, time.time()))
            silent = time.monotonic() - self._last_arrived
            if self._give_up is not None and silent > self._give_up:
                raise SourceError(f"{failure.message} Given up after {silent:.0f} s.", failure.hint)
            attempts += 1
            self._stop.wait(_back_off(attempts))

    def _read_once(self, reason: str, attempts: int) -> tuple[SourceError | None, bool]:
        """Read one connection. Returns why it broke (None: it ended), and whether its source has an end."""
        finite = False
        try:
            with self._source.open(self._stop) as connection:
                finite, self._connection = connection.finite, connection
                try:
                    self._read(connection, reason, attempts)
                finally:
                    self._dropped_before += connection.dropped
                    self._connection = None
        except SourceError as error:
            return error, finite
        return None, finite

    def _read(self, connection: Connection, reason: str, attempts: int) -> None:
        piece: RollingWindow | None = None
        for arrival in connection.frames():
            if piece is None or arrival.gap is not None:
                piece = self._begin(connection, arrival, reason, attempts)
            if not piece.wants(arrival.ticks):
                connection.dropped += 1
                continue
            pixels = rounded(self._resize(arrival.frame)[0])
            for window in piece.add(arrival.ticks, pixels, arrival.arrived, arrival.lag_seconds):
                self._offer(window)
            self.frames += 1
            self._last_arrived = arrival.arrived
            if self._on_frame is not None:
                self._on_frame(arrival.frame, piece.end_seconds)
        if piece is not None and connection.finite and not self._stop.is_set():
            for window in piece.finish():
                self._offer(window)

    def _begin(self, connection: Connection, arrival: Arrival, reason: str, attempts: int) -> RollingWindow:
        """Begin an unbroken piece of the stream. A gap is before it, unless it is the first."""
        if self._began is None or self._piece is None:
            self._began, offset = arrival.arrived, 0.0
        else:
            # During a gap the stream's time goes on as the wall clock does. It never goes back.
            before = self._piece.end_seconds
            offset = max(arrival.arrived - self._began, before)
            silent = arrival.arrived - self._last_arrived
            tries = 0 if arrival.gap else attempts
            self._say(Gap(arrival.gap or reason, before, offset, silent, time.time(), tries))
        if arrival.gap is None:
            frame = arrival.frame
            self._say(Opened(self._source.shown, frame.width, frame.height, time.time()))
        self._piece = RollingWindow(self._spec, self._interval, connection.time_base, offset)
        return self._piece

    def _offer(self, window: SampledWindow) -> None:
        with self._changed:
            if self._window is not None:
                self.windows_skipped += 1
            self._window = window
            self._changed.notify_all()

    def _say(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()


def _back_off(attempt: int) -> float:
    """Seconds to wait before an attempt; the first is number 1.

    The longest wait doubles from one attempt to the next. A random part of it is taken (full jitter), so that a
    hundred clients of a camera that was restarted do not all come back at once.
    """
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 10))
    return random.uniform(0.1, longest)
