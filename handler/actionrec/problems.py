"""Every error and warning of decoding, and its message.

A problem is a key and values: numbers, and names out of closed sets. The process that answers the request makes
the message from them. A decoding child may have been taken over by the video that it decodes. So it sends key
and values only (`to_wire`), and only what an honest child can send is accepted (`error_from_wire`,
`warning_from_wire`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ClipError, ClipWarning
from .formats import ACCEPTED, FFMPEG_LINE, KINDS, REASONS, REENCODE, other_kind, reason, sound_kind, video_kind

_SMALLER = "Send a smaller one, the model sees it small anyway: ffmpeg -i input -vf scale=-2:480 output.mp4"
_MOST = 2**63


def _count(value: object) -> bool:
    """Whether a value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _number(value: object) -> bool:
    """Whether a value is a number from 0 on, whole or not."""
    return _count(value) or (isinstance(value, float) and math.isfinite(value) and 0 <= value < _MOST)


def _name(value: object) -> bool:
    """Whether a value may be FFmpeg's name of a format, codec or colour space, or several with commas
    between.
    """
    return isinstance(value, str) and 0 < len(value) <= 80 and value.isascii() and _plain(value)


def _plain(text: str) -> bool:
    return all(part.replace("_", "").replace("-", "").isalnum() for part in text.replace(" ", "").split(","))


Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class _Problem:
    code: str
    status: int
    """HTTP status; 200 for a warning."""
    message: str
    """A template for `str.format`, with a field for each value."""
    hint: str = ""
    values: Mapping[str, Check] | None = None
    """Name of each value -> the check that it must pass."""


_PROBLEMS = {
    "too_many_frames": _Problem(
        "TOO_MANY_FRAMES",
        413,
        "The part of the video that was asked for has more than {most:,} frames.",
        "Ask for less of it (start_seconds, end_seconds), or send it in pieces.",
        {"most": _count},
    ),
    "too_many_samples": _Problem(
        "TOO_MANY_FRAMES",
        413,
        "The file promises more frames than it has bytes.",
        REENCODE,
        {},
    ),
    "too_many_streams": _Problem(
        "TOO_MANY_STREAMS",
        422,
        "The file has more than {most} streams.",
        f"Keep the one that is to be classified: {FFMPEG_LINE}",
        {"most": _count},
    ),
    "unsupported_codec": _Problem(
        "UNSUPPORTED_CODEC",
        415,
        "The video is coded with {codec}, which this service does not decode.",
        f"Convert it first: {FFMPEG_LINE}",
        {"codec": _name},
    ),
    "unsupported_color_space": _Problem(
        "UNSUPPORTED_COLOR_SPACE",
        422,
        "The video's colors are in {space}, which this service cannot turn into RGB.",
        "Convert them first: ffmpeg -i input -vf zscale=matrix=709 -c:v libx264 output.mp4; "
        "or, where the file only says so by mistake: -vf setparams=colorspace=bt709",
        {"space": _name},
    ),
    "bad_timestamps": _Problem(
        "BAD_TIMESTAMPS",
        422,
        "The video's timestamps are more than {most:g} s apart.",
        "Give it new ones: ffmpeg -i input -vf setpts=N/30/TB -r 30 -c:v libx264 output.mp4",
        {"most": _number},
    ),
    "no_video_stream": _Problem(
        "NO_VIDEO_STREAM",
        422,
        "The file ({container}) has no video stream; it has: {kinds}.",
        "Send a file with a video track.",
        {"container": _name, "kinds": _name},
    ),
    "sound_only": _Problem(
        "NO_VIDEO_STREAM",
        422,
        "The {size:,} bytes received are {kind}, which has no video stream.",
        "Send a file with a video track.",
        {"size": _count, "kind": KINDS.__contains__},
    ),
    "unreadable": _Problem(
        "UNREADABLE_VIDEO",
        422,
        "The {kind} file of {size:,} bytes cannot be read: {reason}.",
        REENCODE,
        {"kind": KINDS.__contains__, "size": _count, "reason": REASONS.__contains__},
    ),
    "not_a_video": _Problem(
        "NOT_A_VIDEO",
        415,
        "The {size:,} bytes received are {kind}.",
        f"Send a video file: {ACCEPTED}.",
        {"size": _count, "kind": KINDS.__contains__},
    ),
    "too_many_pixels": _Problem(
        "TOO_MANY_PIXELS",
        413,
        "Its frames are {width:,} x {height:,}: more than {most:,} pixels.",
        _SMALLER,
        {"width": _count, "height": _count, "most": _count},
    ),
    "frame_too_large": _Problem(
        "TOO_MANY_PIXELS", 413, "A frame in it is more than {most:,} pixels.", _SMALLER, {"most": _count}
    ),
    "unusual_shape": _Problem(
        "UNUSUAL_SHAPE",
        422,
        "A frame of {width:,} x {height:,} is more than {most} times as long in one direction.",
        "Crop it to what is to be classified: ffmpeg -i input -vf crop=640:480 output.mp4",
        {"width": _count, "height": _count, "most": _count},
    ),
    "corrupt": _Problem(
        "CORRUPT_VIDEO",
        422,
        "Only {decoded} of the {promised} frames asked for could be decoded.",
        REENCODE,
        {"decoded": _count, "promised": _count},
    ),
    "no_frames": _Problem(
        "NO_FRAMES",
        422,
        "No frame could be decoded between {start_seconds:g} s and {end_seconds:g} s.",
        REENCODE,
        {"start_seconds": _number, "end_seconds": _number},
    ),
    "empty_stream": _Problem(
        "NO_FRAMES", 422, "The video stream has no frames.", "The file is cut short; send it again.", {}
    ),
    "start_beyond_end": _Problem(
        "START_BEYOND_END",
        400,
        "start_seconds is {start_seconds:g}, but the clip lasts {seconds:.3f} s.",
        "Choose a start_seconds from 0 up to {seconds:.3f}.",
        {"start_seconds": _number, "seconds": _number},
    ),
    "too_many_views": _Problem(
        "TOO_MANY_WINDOWS",
        400,
        "The request makes {windows} windows (crops of each: {crops}); a request may have {most}.",
        "Choose views of at most {most}.",
        {"windows": _count, "crops": _count, "most": _count},
    ),
    "too_long_a_timeline": _Problem(
        "TOO_MANY_WINDOWS",
        400,
        "The request makes {windows} windows (crops of each: {crops}); a request may have {most}.",
        "Ask for {seconds:.3f} s at a time (start_seconds, end_seconds), or choose a larger stride_seconds.",
        {"windows": _count, "crops": _count, "most": _count, "seconds": _number},
    ),
}
_WARNINGS = {
    "short_window": _Problem(
        "SHORT_WINDOW",
        200,
        "The window covers {covered_seconds:.3f} s of the {window_seconds:.3f} s that the model was "
        "trained on; its {frames} frames were spread over {num_frames}.",
        values={"covered_seconds": _number, "window_seconds": _number, "frames": _count, "num_frames": _count},
    ),
    "low_frame_rate": _Problem(
        "LOW_FRAME_RATE",
        200,
        "The window has {frames} frames ({rate:.1f} a second); "
        "some stand for several of the model's {num_frames}.",
        values={"frames": _count, "rate": _number, "num_frames": _count},
    ),
    "corrupt_frames": _Problem(
        "CORRUPT_FRAMES",
        200,
        "{damaged} packets or frames of the window are damaged.",
        values={"damaged": _count},
    ),
}
_MISSING = "WINDOW_MISSING"
"""Code of the warning that a window is missing; its message is that of the error that the window met."""
UNSURE = "UNSURE"
"""Code of the warning that the best score is low. It is about scores, so no child can send it."""

Wire = dict[str, Any]


def problem(key: str, /, **values: object) -> ClipError:
    """The error with a key.

    Args:
        key: one of `_PROBLEMS`.
        values: its values, of the kinds in the table.
    """
    what = _PROBLEMS[key]
    return ClipError(
        what.code, what.status, what.message.format(**values), what.hint.format(**values), key, values
    )


def warning(key: str, /, **values: object) -> ClipWarning:
    """The warning with a key; arguments as for `problem`."""
    what = _WARNINGS[key]
    return ClipWarning(what.code, what.message.format(**values), key, values)


def missing(why: ClipError) -> ClipWarning:
    """The warning that a window is missing, with the message of an error of `problem`."""
    return ClipWarning(_MISSING, why.message, why.key, why.values)


def unsure(score: float, below: float) -> ClipWarning:
    """The warning that a best score is below an archive's `Manifest.unsure_below`."""
    message = f"The best score is {score:.3f}. Below {below:.3f} the video may show none of the labels."
    return ClipWarning(UNSURE, message)


def unreadable(data: bytes, error: Exception) -> ClipError:
    """The error for bytes that FFmpeg cannot open or read: 422 for a damaged video, 415 for anything else."""
    size = len(data)
    if (kind := video_kind(data)) is not None:
        return problem("unreadable", kind=kind, size=size, reason=reason(error))
    if (kind := sound_kind(data)) is not None:
        return problem("sound_only", size=size, kind=kind)
    return problem("not_a_video", size=size, kind=other_kind(data))


def to_wire(what: ClipError | ClipWarning) -> Wire:
    """Key and values, without the message."""
    return {"key": what.key, "values": dict(what.values), "missing": what.code == _MISSING}


def error_from_wire(said: object) -> ClipError:
    """The error that a child reports.

    Raises:
        ValueError: no honest child reports that.
    """
    key, values, is_missing = _taken_apart(said, _PROBLEMS)
    if is_missing:
        raise ValueError("a warning in the place of an error")
    return problem(key, **values)


def warning_from_wire(said: object) -> ClipWarning:
    """The warning that a child reports.

    Raises:
        ValueError: no honest child reports that.
    """
    key, values, is_missing = _taken_apart(said, {**_WARNINGS, **_PROBLEMS})
    if is_missing != (key in _PROBLEMS):
        raise ValueError("an error in the place of a warning")
    return missing(problem(key, **values)) if is_missing else warning(key, **values)


def _taken_apart(said: object, table: Mapping[str, _Problem]) -> tuple[str, dict[str, Any], bool]:
    if not isinstance(said, dict) or said.keys() != {"key", "values", "missing"}:
        raise ValueError("not a problem")
    key, values, is_missing = said["key"], said["values"], said["missing"]
    if type(key) is not str or key not in table or type(is_missing) is not bool:
        raise ValueError("an unknown problem")
    checks = table[key].values or {}
    if not isinstance(values, dict) or values.keys() != checks.keys():
        raise ValueError(f"{key} with other values")
    for name, check in checks.items():
        value = values[name]
        if isinstance(value, list | dict) or not check(value):
            raise ValueError(f"{key} with an impossible value of {name}")
    return key, values, is_missing
