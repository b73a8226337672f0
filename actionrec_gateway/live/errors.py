"""Why an address is not watched."""

from __future__ import annotations

from actionrec.errors import ClipError

from ..fetch.place import Place


def no_stream(place: Place, why: str) -> ClipError:
    """The error for what is no stream that can be watched.

    Args:
        place: where it lies.
        why: a half-sentence.
    """
    return ClipError(
        "NO_STREAM",
        422,
        f"{place.shown} is no stream that can be watched: {why}".removesuffix(".") + ".",
        "It needs MPEG-TS, MJPEG, FLV, Matroska, fragmented MP4 or HLS over HTTP. For RTSP and DASH: "
        "actionrec stream ADDRESS",
    )
