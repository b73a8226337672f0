"""Every kind of bad input and the answer that it has: one table for all the ways in.

`CASES` are bodies of a request, with options. `REFUSED_BY_SERVER` are requests that are broken as requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import requests

from testing.media import encode, program_tables, with_bad_metadata
from tests.hostile_files import (
    NOISE,
    damaged,
    edit,
    frames,
    good,
    huge_jpeg,
    huge_vp8,
    leaping,
    lying,
    many_streams,
    no_frames,
    picture,
    plain,
    samples,
    sound,
    with_run,
    zipped,
)


@dataclass(frozen=True)
class Lure:
    """What a playlist points at, to see whether anyone goes there."""

    file: Path
    url: str


@dataclass(frozen=True)
class Case:
    """One bad input and its answer."""

    name: str
    make: Callable[[Lure], bytes]
    status: int
    code: str
    """Of the error; of the warning where the status is 200, empty for none."""
    options: dict[str, str] = field(default_factory=dict)


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{place}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{place}'\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT10S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{place}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)


def pointing(text: str, *, to_file: bool) -> Callable[[Lure], bytes]:
    """A text that names the lure's file or address."""

    def make(lure: Lure) -> bytes:
        place = str(lure.file) if to_file else lure.url
        port = lure.url.split(":")[2].split("/")[0]
        return text.format(place=place, port=port).encode()

    return make


CASES = (
    Case("empty body", lambda _: b"", 400, "EMPTY_BODY"),
    Case("one byte", lambda _: b"x", 415, "NOT_A_VIDEO"),
    Case("64 KB of noise", lambda _: NOISE, 415, "NOT_A_VIDEO"),
    Case("text", lambda _: b"Please classify my video.\n" * 50, 415, "NOT_A_VIDEO"),
    Case("HTML", lambda _: b"<!DOCTYPE html><html><body>404</body></html>", 415, "NOT_A_VIDEO"),
    Case("a PNG picture", lambda _: picture(), 415, "NOT_A_VIDEO"),
    Case("a ZIP archive", lambda _: zipped(), 415, "NOT_A_VIDEO"),
    Case("HLS playlist, file", pointing(HLS, to_file=True), 415, "NOT_A_VIDEO"),
    Case("HLS playlist, address", pointing(HLS, to_file=False), 415, "NOT_A_VIDEO"),
    Case("ffconcat, file", pointing(CONCAT, to_file=True), 415, "NOT_A_VIDEO"),
    Case("ffconcat, address", pointing(CONCAT, to_file=False), 415, "NOT_A_VIDEO"),
    Case("SDP", pointing(SDP, to_file=False), 415, "NOT_A_VIDEO"),
    Case("DASH, file", pointing(DASH, to_file=True), 415, "NOT_A_VIDEO"),
    Case("DASH, address", pointing(DASH, to_file=False), 415, "NOT_A_VIDEO"),
    Case(
        "a codec that is not let in",
        lambda _: encode(frames(10), codec="ffv1", container="matroska"),
        415,
        "UNSUPPORTED_CODEC",
    ),
    Case("MP4 cut in half", lambda _: good()[: len(good()) // 2], 422, "UNREADABLE_VIDEO"),
    Case("MP4 without its moov", lambda _: edit(good(), "moov/", lambda _: b""), 422, "UNREADABLE_VIDEO"),
    Case("sound only", lambda _: sound(), 422, "NO_VIDEO_STREAM"),
    Case("an MP3", lambda _: b"ID3" + bytes(300), 422, "NO_VIDEO_STREAM"),
    Case("a header without frames", lambda _: no_frames(), 422, "NO_FRAMES"),
    Case("one frame", lambda _: encode(frames(1)), 200, "SHORT_WINDOW"),
    Case("damaged, most frames left", lambda _: damaged(0.2), 200, "CORRUPT_FRAMES"),
    Case("damaged, few frames left", lambda _: damaged(0.9), 422, "CORRUPT_VIDEO"),
    Case("damaged, no frame left", lambda _: damaged(1.0), 422, "NO_FRAMES"),
    Case("VP8 header of 16383 x 16383", lambda _: huge_vp8(0), 413, "TOO_MANY_PIXELS"),
    Case("JPEG frames of 16384 x 16384", lambda _: huge_jpeg(), 422, "NO_FRAMES"),  # the decoder refuses them
    Case("grows to 16383 x 16383", lambda _: huge_vp8(5), 413, "TOO_MANY_PIXELS"),
    Case("grows to 4096 x 2304", lambda _: plain(160, 120, 10) + plain(4096, 2304, 2), 413, "TOO_MANY_PIXELS"),
    Case("grows to 640 x 480", lambda _: plain(160, 120, 35) + plain(640, 480, 35), 200, ""),
    Case("forty times as wide as high", lambda _: plain(640, 16, 2), 422, "UNUSUAL_SHAPE"),
    Case(
        "a million frames", lambda _: samples(1_000_000, 512), 413, "TOO_MANY_FRAMES", {"end_seconds": "86400"}
    ),
    Case("150,000 frames at once", lambda _: samples(150_000, 0), 413, "TOO_MANY_FRAMES"),
    Case("says that it lasts ten days", lambda _: lying(), 200, ""),
    Case("ten million frames in 16 bytes", lambda _: with_run(10_000_000), 413, "TOO_MANY_FRAMES"),
    Case("timestamps from end to end", lambda _: leaping(), 422, "BAD_TIMESTAMPS", {"views": "2"}),
    Case("205 tables of 40 programs", lambda _: program_tables([40] * 205), 422, "TOO_MANY_STREAMS"),
    Case(
        "colors in YCgCo",
        lambda _: encode(frames(10), options={"x264-params": "colormatrix=YCgCo"}),
        422,
        "UNSUPPORTED_COLOR_SPACE",
    ),
    Case("1,000 streams", lambda _: many_streams(1000), 422, "TOO_MANY_STREAMS"),
    Case("a title that is not UTF-8", lambda _: with_bad_metadata(good()), 200, ""),
    Case("an unknown option", lambda _: good(), 400, "UNKNOWN_OPTION", {"topk": "3"}),
    Case("an option out of range", lambda _: good(), 400, "OPTION_OUT_OF_RANGE", {"top_k": "99999"}),
    Case("an option that is not a number", lambda _: good(), 400, "BAD_OPTION", {"top_k": "many"}),
    Case("NaN", lambda _: good(), 400, "BAD_OPTION", {"start_seconds": "nan"}),
    Case(
        "end before start",
        lambda _: good(),
        400,
        "OPTION_OUT_OF_RANGE",
        {"start_seconds": "2", "end_seconds": "1"},
    ),
    Case("start beyond the end", lambda _: good(), 400, "START_BEYOND_END", {"start_seconds": "100"}),
)


@dataclass(frozen=True)
class Refused:
    """A request that is broken as a request."""

    name: str
    ask: Callable[[str, requests.Session], requests.Response]
    """The server's address and how to speak to it -> the reply."""
    status: int
    """From TorchServe."""
    says: str
    """Part of the reply's text."""
    through_nginx: tuple[int, str]
    """Status and code from the front, behind which TorchServe takes nothing apart."""


Ask = Callable[[str, requests.Session], requests.Response]


def _post(content_type: str, body: bytes) -> Ask:
    headers = {"Content-Type": content_type}
    return lambda url, to: to.post(f"{url}/predictions/motion", data=body, headers=headers, timeout=60)


def _put(path: str, body: bytes) -> Ask:
    return lambda url, to: to.put(f"{url}/predictions/{path}", data=body, timeout=60)


FORM = "multipart/form-data; boundary=XX"
PART = b'--XX\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
NO_NAME = b"--XX\r\n\r\nabc\r\n--XX--\r\n"
NOT_A_VIDEO, BAD_FORM, NO_MODEL = (415, "NOT_A_VIDEO"), (400, "BAD_FORM"), (404, "MODEL_NOT_FOUND")
REFUSED_BY_SERVER = (
    # These reach the handler, as a request without any field.
    Refused("a form that breaks off", _post(FORM, PART + b"abc"), 400, "NO_VIDEO", BAD_FORM),
    Refused("a form that is none", _post(FORM, b"abc"), 400, "NO_VIDEO", NOT_A_VIDEO),
    Refused("an empty form", _post(FORM, b""), 400, "NO_VIDEO", (400, "EMPTY_BODY")),
    # Netty's decoder fails, and TorchServe 0.12 calls that its own fault; no worker has part in it.
    Refused(
        "a form with an empty boundary",
        _post("multipart/form-data; boundary=", b"abc"),
        500,
        "OutOfBounds",
        NOT_A_VIDEO,
    ),
    Refused("a form's part without a name", _post(FORM, NO_NAME), 500, "ErrorDataDecoder", BAD_FORM),
    Refused(
        "a form in an unknown character set",
        _post(f"{FORM}; charset=nope", PART + b"abc\r\n--XX--\r\n"),
        403,
        "UnsupportedCharset",
        NOT_A_VIDEO,
    ),
    Refused(
        "a video that calls itself urlencoded",
        _post("application/x-www-form-urlencoded", b"a=1\rb"),
        500,
        "ErrorDataDecoder",
        NOT_A_VIDEO,
    ),
    Refused(
        "a model that is not there",
        _put("nobody", b"x"),
        404,
        "ModelNotFoundException",
        NO_MODEL,
    ),
    Refused(
        "a version that is not there",
        _put("motion/9.9", b"x"),
        404,
        "ModelVersionNotFoundException",
        NO_MODEL,
    ),
    Refused("a body over the limit", _put("motion", bytes(104_857_601)), 413, "", (413, "BODY_TOO_LARGE")),
)
