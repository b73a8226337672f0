"""A row of a server -> a checked ClipRequest.

A server gives one dict per request: either the raw body under ``body`` or ``data`` (a video, a JSON object or a
multipart form, see `body`), or what the server has parsed already: a form's fields by name, or a JSON value as
the body. All of these mean the same request.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .body import not_an_object, read_form, read_json
from .errors import ClipError
from .limits import DEFAULT_LIMITS, Limits
from .sampling import FIRST_WINDOW, Selection

VIDEO_FIELDS = ("video", "data", "body")
"""Names of the field with the video. A JSON object is searched for them in this order."""

DEFAULT_TOP_K = 5
_OPTIONS = ("top_k", "start_seconds", "end_seconds", "views", "crops", "stride_seconds", "embedding", "explain")
_EMBEDDINGS = ("json", "base64")
_LABEL_LENGTH = 500
_CROPS = (1, 3)
BEST_LABEL = -1
MOST_EXPLAINED_VIEWS = 8
"""Views of one request that can be explained: their maps are kept until the best label is known, and one view
of a SlowFast R50 has 6.3 MB of them."""

# A number as JSON writes it. Python's `float` also accepts digits of other scripts, "1_0" and " 1 ".
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_LENGTH = 64

_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 2, 60, 60


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """One clip to classify."""

    video: bytes
    """A whole video file."""
    top_k: int = DEFAULT_TOP_K
    """How many labels to return, best first."""
    selection: Selection = FIRST_WINDOW
    """The windows and crops of the video to classify."""
    embedding: bool = False
    """Whether the embedding is wanted."""
    embedding_in_base64: bool = False
    """Whether a reply has it as base64 of little-endian float32. Default: as numbers."""
    explain: int | None = None
    """Number of the label whose score is to be explained; `BEST_LABEL`; None: no explanation."""
    client: str = ""
    """Who sends the request, for fair shares; empty where it is not known."""


def parse_request(
    row: Mapping[str, Any], labels: Sequence[str], limits: Limits = DEFAULT_LIMITS
) -> ClipRequest:
    """Turn a row into a request.

    Args:
        row: field name -> bytes or str; any JSON value where the server parsed the body.
        labels: the model's, in the order of its scores; `top_k` can be no larger than their number.
        limits: the largest options and video that are accepted.

    Raises:
        ClipError: 400, with the field and its range; 413 for a video that is too large.
    """
    fields = dict(row)
    for name in ("body", "data"):
        if name in fields:
            fields.update(_unpacked(name, fields.pop(name)))
    video = _video(fields)
    if len(video) > limits.body_bytes:
        raise ClipError(
            "BODY_TOO_LARGE",
            413,
            f"The video has {len(video):,} bytes; {limits.body_bytes:,} are allowed.",
            "Send a shorter or smaller one: ffmpeg -i input -vf scale=-2:480 -c:v libx264 output.mp4",
        )
    for name in fields:
        if name not in _OPTIONS:
            raise unknown_option(name)
    # A model of 3 classes has no 5 labels to give.
    most = min(len(labels), limits.top_k)
    top_k = _number(fields, "top_k", min(DEFAULT_TOP_K, most), 1, most, whole=True)
    selection = _selection(fields, limits)
    embedding, explain = _embedding(fields), _explained(fields, labels)
    if explain is not None:
        check_explainable(selection)
    return ClipRequest(
        video,
        int(top_k),
        selection,
        embedding=bool(embedding),
        embedding_in_base64=embedding == "base64",
        explain=explain,
    )


def unknown_option(name: object) -> ClipError:
    """The error for an option that there is not."""
    return _bad("UNKNOWN_OPTION", f"There is no option {_show(name)}.", f"Options: {', '.join(_OPTIONS)}.")


def check_explainable(selection: Selection) -> None:
    """Refuse to explain more views than can be explained.

    Raises:
        ClipError: 400
    """
    if selection.stride_seconds is not None:
        raise _bad(
            "CONFLICTING_OPTIONS",
            f"The request has both explain and stride_seconds={selection.stride_seconds:g}.",
            "Explain one window of the timeline: start_seconds and end_seconds say which.",
        )
    if (views := selection.views * selection.crops) > MOST_EXPLAINED_VIEWS:
        raise _bad(
            "OPTION_OUT_OF_RANGE",
            f"explain is for at most {MOST_EXPLAINED_VIEWS} views, and views x crops is {views}.",
            f"Choose fewer: views={MOST_EXPLAINED_VIEWS // selection.crops}.",
        )


def _embedding(fields: Mapping[str, Any]) -> str:
    """How the embedding is wanted: json or base64; empty: not at all."""
    if "embedding" not in fields:
        return ""
    text = _text(fields["embedding"])
    if text not in _EMBEDDINGS:
        shown = _show(fields["embedding"])
        raise _bad("BAD_OPTION", f"embedding is {shown}.", f"Choose {' or '.join(_EMBEDDINGS)}.")
    return text


def _explained(fields: Mapping[str, Any], labels: Sequence[str]) -> int | None:
    """Number of the label to explain, or `BEST_LABEL`; None: none."""
    value = fields.get("explain", False)
    text = str(value).lower() if isinstance(value, bool) else _text(value)
    if text in labels:
        return labels.index(text)
    if text not in ("true", "false"):
        near = difflib.get_close_matches(text[:_LABEL_LENGTH], labels, 1)
        hint = f"Do you mean {_show(near[0])}?" if near else "The model's description has all labels."
        raise _bad(
            "BAD_OPTION", f"explain is {_show(value)}, which is no label.", f"Choose true, or a label. {hint}"
        )
    return BEST_LABEL if text == "true" else None


def _text(value: object) -> str:
    """An option's text; empty where it is none."""
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else ""


def _selection(fields: Mapping[str, Any], limits: Limits) -> Selection:
    start = _number(fields, "start_seconds", 0.0, 0.0, limits.seconds)
    end = None
    if "end_seconds" in fields:
        end = _number(fields, "end_seconds", 0.0, 0.0, limits.seconds)
        if end <= start:
            raise _bad(
                "OPTION_OUT_OF_RANGE",
                f"end_seconds is {end:g}, which is not after start_seconds={start:g}.",
                f"Choose an end_seconds above {start:g}.",
            )
    crops = int(_number(fields, "crops", 1, _CROPS[0], _CROPS[-1], whole=True))
    if crops not in _CROPS:
        raise _bad("OPTION_OUT_OF_RANGE", f"crops is {crops}.", "Choose 1 (the centre) or 3 (and both ends).")
    views = int(_number(fields, "views", 1, 1, limits.windows // crops, whole=True))
    stride = None
    if "stride_seconds" in fields:
        stride = _number(fields, "stride_seconds", 0.0, limits.stride_seconds, limits.seconds)
        if views > 1:
            raise _bad(
                "CONFLICTING_OPTIONS",
                f"The request has both views={views} and stride_seconds={stride:g}.",
                "Choose views for one answer about a range, stride_seconds for an answer a window.",
            )
    return Selection(start, end, views, crops, stride)


def _unpacked(name: str, body: object) -> Mapping[str, Any]:
    """The fields in a body; a body that is the video becomes one field."""
    if isinstance(body, Mapping):
        return _from_json(body)
    data = _bytes(body)
    if (found := read_json(data)) is not None:
        return _from_json(found)
    if (form := read_form(data)) is not None:
        return form
    return {name: data}


def _from_json(body: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(body)
    name = next((n for n in VIDEO_FIELDS if n in fields), None)
    if name is None:
        raise _bad("NO_VIDEO", "The JSON object has no field video.", 'Send {"video": "<base64 of the file>"}.')
    text = fields.pop(name)
    if not isinstance(text, str):
        raise _bad("BAD_BASE64", f"{name} is {_kind(text)}, not a string.", "Send the file as base64 text.")
    try:
        fields["video"] = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad("BAD_BASE64", f"{name} is not base64: {error}.", "Encode it: base64 -w0 clip.mp4") from error
    return fields


def _video(fields: dict[str, Any]) -> bytes:
    """Remove the video from the fields and return it."""
    names = [name for name in VIDEO_FIELDS if name in fields]
    if not names:
        raise _bad(
            "NO_VIDEO",
            f"The request has no video; its fields are: {', '.join(map(_show, sorted(fields)[:3])) or 'none'}.",
            "Send the file as the body (curl -T clip.mp4 URL) or as a form (curl -F video=@clip.mp4 URL); "
            "with curl --data-binary add -H 'Content-Type: application/octet-stream'.",
        )
    if len(names) > 1:
        raise _bad("TWO_VIDEOS", f"The request has {' and '.join(names)}.", "Send one video a request.")
    video = _bytes(fields.pop(names[0]))
    if not video:
        raise _bad("EMPTY_BODY", "The video has no bytes.", "Send the file itself: curl -T clip.mp4 URL")
    return video


def _bytes(value: object) -> bytes:
    """The bytes that were sent, where the server may have made text or None of them."""
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, str):
        raise not_an_object(value)
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise _bad(
            "BAD_BODY",
            "The video is text that is not proper Unicode.",
            "Send the file itself: curl -T clip.mp4 URL",
        ) from error


def _number(
    fields: Mapping[str, Any], name: str, default: float, low: float, high: float, *, whole: bool = False
) -> float:
    """The value of an option: a number, or text that JSON reads as a number."""
    if name not in fields:
        return default
    value = fields[name]
    if isinstance(value, bytes | bytearray):
        value = bytes(value[: _NUMBER_LENGTH + 1]).decode("utf-8", errors="replace")
    number: float = math.nan
    if isinstance(value, str):
        if len(value) <= _NUMBER_LENGTH and _NUMBER.fullmatch(value):
            number = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    allowed = f"Choose {low:g} to {high:g}."
    # Integers are compared as they are: one with hundreds of digits does not fit a float.
    if not isinstance(number, int) and (not math.isfinite(number) or (whole and not number.is_integer())):
        raise _bad("BAD_OPTION", f"{name} is {_show(value)}, not a {'whole ' * whole}number.", allowed)
    if not low <= number <= high:
        raise _bad("OPTION_OUT_OF_RANGE", f"{name} is {_show(value)}.", allowed)
    return float(number)


def _show(value: object) -> str:
    """A value as messages show it: ASCII, at most 40 characters. Bytes are shown as the text that they are."""
    if isinstance(value, bytes | bytearray):
        value = bytes(value[:_LABEL_LENGTH]).decode("utf-8", errors="replace")
    try:
        text = _brief.repr(value).encode("ascii", "backslashreplace").decode()
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _bad(code: str, message: str, hint: str) -> ClipError:
    return ClipError(code, 400, message, hint)
