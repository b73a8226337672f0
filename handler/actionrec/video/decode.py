"""The bytes of a video -> frames at the model's size, with PyAV (FFmpeg) and OpenCV's resize. No torch.

The steps for one window:

    bytes -> demux: packets from the key frame before the window to its end
          -> their timestamps say which frames are in the window; `sampling` says which of those are sampled
          -> decode: the packets once; skip frames that no other frame refers to and that are not sampled
          -> convert: the sampled ones only, while the next are decoded: RGB, short side, rotation, crop

Several windows are decoded in one pass (`window_reader`) and share the frames that they have in common. Sizes,
durations and frame counts in headers decide nothing.

The result equals the published recipe (full-size RGB, ``F.interpolate(bilinear, align_corners=False)``) to
within rounding. swscale's own scaler does not: it differs by up to 40/255, which would cost accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack

import av

from .. import sampling
from ..limits import DEFAULT_LIMITS, Limits
from ..problems import problem, unreadable
from ..sampling import Selection
from ..spec import ClipSpec
from .acceleration import Acceleration
from .container import Source
from .decoded import Decoded
from .packets import FarTrack, NearTrack, Track
from .window_reader import Room, WindowReader, new_room

__all__ = ["Decoded", "Decoder", "decode", "windows"]

Decoder = Callable[[bytes, ClipSpec, Selection, Limits], Iterator[Decoded]]
"""The signature of `windows` without its optional arguments."""


def windows(
    data: bytes,
    spec: ClipSpec,
    selection: Selection,
    limits: Limits,
    thread: Executor | None = None,
    opened: Callable[[], object] = bool,
    room: Room = new_room,
    acceleration: Acceleration | None = None,
) -> Iterator[Decoded]:
    """Decode the windows of a video that a request asks for, in one pass.

    Args:
        data: a whole video file.
        spec: what the model eats.
        selection: which windows and crops.
        limits: what the request may cost.
        thread: converts the frames; must have one thread. Default: a new one.
        opened: called when the file is open and its streams are known.
        room: gives the arrays for a window's frames; called when the window before was taken.
        acceleration: what decodes instead of the CPU. None: nothing does.

    Yields:
        One `Decoded` per crop of each window, in order; one that is `missing` for a window whose part of the
        file is damaged.

    Raises:
        ClipError: the bytes are no video, no window has a frame, or the request asks for too much.
        NotTakenError: with `acceleration` only: the video is one for the CPU.
    """
    try:
        with ExitStack() as stack:
            hardware = acceleration.hardware if acceleration else None
            source = stack.enter_context(Source(data, limits, hardware))
            converter = acceleration.converter(source, spec, selection.crops) if acceleration else None
            opened()
            thread = thread or stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="convert"))
            track: Track | None = None
            length = 0.0
            if selection.several:
                track = FarTrack(source)
                length = track.seconds()
            elif selection.needs_length(spec.window_seconds):
                length = source.seconds()
            chosen = sampling.spread(selection, spec.window_seconds, length)
            _check_count(chosen, selection, limits)
            if track is None:
                ((start, end),) = chosen
                track = NearTrack(source, *sampling.window_ticks(start, end, source.time_base, source.origin))
            timeline = selection.stride_seconds is not None
            reader = WindowReader(
                source,
                track,
                spec,
                chosen,
                thread,
                selection.crops,
                find_shots=timeline,
                room=room,
                converter=converter,
            )
            answered = False
            for decoded in reader.decode():
                answered = answered or not decoded.missing
                if answered or chosen.count > 1:
                    yield decoded
            if reader.problem is not None and not answered:
                raise reader.problem
    except (av.FFmpegError, MemoryError) as error:
        raise unreadable(data, error) from error


def decode(
    data: bytes,
    spec: ClipSpec,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Decoded:
    """Decode one window of a video, for the range [start_seconds, end_seconds).

    Args:
        data: a whole video file.
        spec: what the model eats.
        start_seconds: from the video's first frame.
        end_seconds: default: one window after the start. Of a longer range the middle window is taken, of a
            shorter one all frames.
        limits: what the request may cost.

    Raises:
        ClipError: the bytes are no video, hold no frame there, or cost too much.
    """
    (decoded,) = windows(data, spec, Selection(start_seconds, end_seconds), limits)
    return decoded


def _check_count(chosen: sampling.Windows, selection: Selection, limits: Limits) -> None:
    """Refuse a request with too many windows.

    Raises:
        ClipError: 400; its hint says how to ask for fewer.
    """
    most = limits.windows // selection.crops
    if chosen.count <= most:
        return
    values = {"windows": chosen.count, "crops": selection.crops, "most": most}
    if selection.stride_seconds is None:
        raise problem("too_many_views", **values)
    span = (most - 1) * selection.stride_seconds + chosen.seconds
    raise problem("too_long_a_timeline", seconds=span, **values)
