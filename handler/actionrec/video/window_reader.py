"""One pass over the windows of a request: each packet is decoded once, and each frame converted once.

    packets -> decoder -> frames -> converted (in another thread) -> the window that is being filled
                                                                  -> kept for the windows that overlap it

A window's sampled frames are known before they are decoded, from the packets' timestamps. Where those are
missing, or a promised frame does not come out, the rest is decoded once more to count the frames that are
really there. Memory holds one window and the frames that later ones share with it, however long the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from .. import sampling
from ..errors import ClipError
from ..problems import problem
from ..spec import ClipSpec
from .container import MAX_REORDER, Source
from .conversion import Conversion, Converter
from .decoded import Decoded, gap, warnings_of
from .frames import Reader, Shown
from .order import Ticks
from .packets import Span, Track
from .resize import Pixels, Resizer
from .shot_boundaries import shot_boundaries

# Packets after a window's last one by which any decoder has given all its frames.
_DECODER_DELAY = 2 * MAX_REORDER


Room = Callable[[tuple[int, ...]], Pixels]
"""Takes the shape of a window's frames, int16 [crops, T, H, W, 3], and returns an array for them. It may return
the array of the window before again."""


def new_room(shape: tuple[int, ...]) -> Pixels:
    """A new array."""
    return np.empty(shape, dtype=np.int16)


@dataclass(slots=True)
class Window:
    """One window that is being decoded."""

    number: int
    start_seconds: float
    end_seconds: float
    first: int
    """Its first tick."""
    stop: int
    """The tick after its last."""
    span: Span
    promised: int = 0
    """Frames inside the window by the packets' timestamps."""
    stamps: Ticks = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Timestamps of its frames as far as they are known, in ticks, sorted."""
    sampled: Ticks = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Timestamps of the sampled frames, in order; some twice where the window has fewer frames."""
    positions: dict[int, list[int]] = field(default_factory=dict)
    """Timestamp of a sampled frame -> its places among the model's frames."""


class WindowReader:
    """The windows of one open file, in order.

    Args:
        source: the file.
        track: its packets.
        spec: what the model eats.
        windows: (start, end) of each, in seconds, in order of their starts.
        thread: converts the frames; runs one task at a time.
        crops: crops of each window.
        find_shots: whether to look for shot boundaries in each window.
        room: gives the arrays for the windows' frames.
        converter: converts the frames. None: the CPU does.
    """

    def __init__(
        self,
        source: Source,
        track: Track,
        spec: ClipSpec,
        windows: sampling.Windows,
        thread: Executor,
        crops: int = 1,
        *,
        find_shots: bool = False,
        room: Room = new_room,
        converter: Converter | None = None,
    ) -> None:
        self.source = source
        self.track = track
        self.spec = spec
        self.crops = crops
        self.find_shots = find_shots
        self._room = room
        self.converter = converter or Resizer(spec, crops)
        self._conversion = Conversion(self.converter, thread)
        self._reader = Reader(source, track)
        self.problem: ClipError | None = None
        """The error of the first window that could not be decoded."""
        self._counted_damage: list[int] = []
        self.windows = [self._window(number, *window) for number, window in enumerate(windows)]

    def _window(self, number: int, start_seconds: float, end_seconds: float) -> Window:
        first, stop = sampling.window_ticks(
            start_seconds, end_seconds, self.source.time_base, self.source.origin
        )
        return Window(number, start_seconds, end_seconds, first, stop, self.track.span(first, stop))

    def decode(self) -> Iterator[Decoded]:
        """The views of each window; one that is `missing` for a window without frames."""
        waiting = deque(self.windows)
        self._sample(waiting, self.track.stamps)
        counted = not any(window.positions for window in waiting)
        if not counted:
            for window in waiting:
                window.promised = len(window.stamps)
            yield from self._run(waiting, skip=True)
        if waiting:
            if not self.source.counted and (self._reader.contradicted or not self.track.stamps.size):
                self.track.widen()
                for window in waiting:
                    window.span = self.track.span(window.first, window.stop)
            self._sample(waiting, self._reader.count([window.span for window in waiting]))
            # The next reading may end before the damage.
            self._counted_damage = self._reader.damage
            yield from self._run(waiting, skip=False)
        for window in waiting:
            yield self._gap(window, self._nothing(window))

    def _sample(self, windows: Iterable[Window], stamps: Ticks) -> None:
        """Set each window's timestamps and sampled frames, out of all timestamps of the track."""
        for window in windows:
            window.stamps = np.unique(stamps[(window.first <= stamps) & (stamps < window.stop)])
            window.positions = {}
            if not window.stamps.size:
                continue
            indices = sampling.uniform_indices(len(window.stamps), self.spec.num_frames)
            window.sampled = window.stamps[indices]
            for position, stamp in enumerate(window.sampled.tolist()):
                window.positions.setdefault(stamp, []).append(position)

    def _run(self, waiting: deque[Window], *, skip: bool) -> Iterator[Decoded]:
        """The views of the first windows in `waiting`, which are removed from it; ends where a frame is
        missing.

        Args:
            skip: whether to skip frames that no other frame refers to and that are not sampled.
        """
        last_use = {stamp: window.number for window in waiting for stamp in window.positions}
        # Where frames were counted, the count was over all spans.
        spans = [window.span for window in waiting if window.positions or not skip]
        frames = self._decoded(spans, frozenset(last_use) if skip else None)
        kept: dict[int, Pixels] = {}
        while waiting:
            window = waiting[0]
            if window.positions:
                filled = self._fill(window, frames, kept, last_use, skip=skip)
                if filled is None:
                    return
                yield from self._views(window, filled)
            else:
                yield self._gap(window, self._nothing(window))
            waiting.popleft()
            for stamp in [stamp for stamp in kept if last_use[stamp] <= window.number]:
                del kept[stamp]

    def _fill(
        self,
        window: Window,
        frames: Iterator[Shown],
        kept: dict[int, Pixels],
        last_use: dict[int, int],
        *,
        skip: bool,
    ) -> Pixels | None:
        """The sampled frames of a window, int16 [crops, T, H, W, 3]; None where one of them does not come out.

        Args:
            frames: the decoder's output; no more of it is taken than needed.
            kept: timestamp -> converted frame, int16 [crops, H, W, 3], for this and later windows. Frames that
                later windows sample are added.
            last_use: timestamp of a sampled frame -> number of the last window that samples it.
            skip: as of `_run`.
        """
        side = self.spec.crop
        out = self._room((self.crops, self.spec.num_frames, side, side, 3))
        missing = set(window.positions)
        for stamp in missing & kept.keys():
            out[:, window.positions[stamp]] = kept[stamp][:, None]
        missing -= kept.keys()
        try:
            while missing:
                number, stamp, frame = next(frames, (None, 0, None))
                if number is None or frame is None:
                    return None
                # A damaged stretch holds frames back for as long as it lasts. Counted ones will come.
                if skip and number > window.span.last + _DECODER_DELAY:
                    return None
                places = [out[:, place] for place in window.positions[stamp]] if stamp in missing else []
                missing.discard(stamp)
                if last_use.get(stamp, -1) > window.number and stamp not in kept:
                    kept[stamp] = np.empty((self.crops, side, side, 3), dtype=np.int16)
                    places.append(kept[stamp])
                if places:
                    self._conversion.start(frame, places)
        finally:
            self._conversion.finish()
        return out

    def _decoded(self, spans: Sequence[Span], wanted: frozenset[int] | None) -> Iterator[Shown]:
        """See `Reader.frames`."""
        return self._reader.frames(spans, wanted)

    def _views(self, window: Window, frames: Pixels) -> Iterator[Decoded]:
        """The views of a window; one that is `missing` where too few of its frames could be decoded.

        Args:
            frames: int16 [crops, T, H, W, 3].
        """
        beyond = window.span.last + _DECODER_DELAY
        damaged = max(
            sum(window.span.first <= number <= beyond for number in found)
            for found in (self._reader.damage, self._counted_damage)
        )
        if damaged and len(window.stamps) * 2 < window.promised:
            reason = problem("corrupt", decoded=len(window.stamps), promised=window.promised)
            yield self._gap(window, reason)
            return
        seconds = self._seconds(window.stamps[[0, -1]])
        several = len(window.stamps) > 1
        if several:
            spacing = (seconds[1] - seconds[0]) / (len(window.stamps) - 1)
        else:
            spacing = float(self.source.ticks_per_frame * self.source.time_base)
        end_seconds = min(window.end_seconds, seconds[1] + spacing)
        covered = end_seconds - window.start_seconds
        warnings = tuple(warnings_of(self.spec, covered, len(window.stamps), spacing, damaged))
        found = self._shot_boundaries(window, frames[0]) if self.find_shots else ()
        frame_seconds = tuple(self._seconds(window.sampled))
        for crop, pixels in enumerate(frames):
            yield Decoded(
                frames=pixels,
                start_seconds=window.start_seconds,
                end_seconds=end_seconds,
                source_frames=len(window.stamps),
                source_fps=1 / spacing if several else 0.0,
                width=self.converter.shown[0],
                height=self.converter.shown[1],
                codec=self.source.codec,
                warnings=warnings,
                shot_boundaries=found,
                window=window.number,
                frame_seconds=frame_seconds,
                crop=crop,
            )

    def _shot_boundaries(self, window: Window, frames: Pixels) -> tuple[float, ...]:
        """A window's shot boundaries in seconds: the first sampled frame of each new shot.

        Args:
            frames: int16 [T, H, W, 3].
        """
        stamps, places = np.unique(window.sampled, return_index=True)
        seconds = self._seconds(stamps)
        return tuple(seconds[n + 1] for n in shot_boundaries(frames[places]))

    def _seconds(self, stamps: Ticks) -> list[float]:
        """Seconds from the video's first frame."""
        return [float((stamp - self.source.origin) * self.source.time_base) for stamp in stamps.tolist()]

    def _gap(self, window: Window, reason: ClipError) -> Decoded:
        self.problem = self.problem or reason
        return gap(self.spec, window.number, window.start_seconds, window.end_seconds, reason)

    def _nothing(self, window: Window) -> ClipError:
        """The reason why a window has no frames."""
        length = self.track.seconds()
        if window.start_seconds < length:
            return problem("no_frames", start_seconds=window.start_seconds, end_seconds=window.end_seconds)
        if length == 0:
            return problem("empty_stream")
        return problem("start_beyond_end", start_seconds=window.start_seconds, seconds=length)
