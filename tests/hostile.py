"""Every kind of bad input, how it is made, and the answer that it has: one table for all the ways in.

`CASES` are bodies of a request, with options. `REFUSED_BY_SERVER` are requests that are broken as requests.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import av
import numpy as np
import requests

from testing.media import Frames, encode, program_tables, textured_frames, with_bad_metadata


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


@cache
def frames(count: int = 70) -> Frames:
    """uint8 [count, 120, 160, 3]."""
    return textured_frames(160, 120, count)


@cache
def good() -> bytes:
    """A clip that nothing is wrong with: an MP4 of 70 frames, with its moov at the end."""
    return encode(frames(), options={"g": "10", "bf": "0"})


def edit(mp4: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """The same MP4 with one box changed, and the sizes of those around it.

    Args:
        path: of the box, as in ``moov/trak/mdia``.
        change: the box's content -> its new content, or whole boxes where the path ends in ``/``.
    """
    name, _, rest = path.partition("/")
    out, place = b"", 0
    while place < len(mp4):
        size, kind = struct.unpack(">I4s", mp4[place : place + 8])
        box, content = mp4[place : place + size], mp4[place + 8 : place + size]
        if kind == name.encode():
            if path.endswith("/") and not rest:
                box = change(box)
            else:
                content = edit(content, rest, change) if rest else change(content)
                box = struct.pack(">I4s", len(content) + 8, kind) + content
        out, place = out + box, place + size
    return out


STBL = "moov/trak/mdia/minf/stbl/"


def samples(count: int, ticks: int) -> bytes:
    """An MP4 that has `count` frames of a byte each by its tables, `ticks` apart at 15,360 a second."""
    mp4 = edit(good(), "moov/trak/edts/", lambda _: b"")
    for box, content in (
        ("stts", struct.pack(">IIII", 0, 1, count, ticks)),
        ("stsz", struct.pack(">III", 0, 1, count)),
        ("stsc", struct.pack(">IIIII", 0, 1, 1, count, 1)),
        ("stco", struct.pack(">III", 0, 1, len(mp4) + 8)),
    ):
        mp4 = edit(mp4, STBL + box, lambda _, content=content: content)  # type: ignore[misc]
    mp4 = edit(mp4, STBL + "stss/", lambda _: b"")
    return mp4 + struct.pack(">I4s", count + 8, b"mdat") + bytes(count)


def lying() -> bytes:
    """An MP4 whose headers tell of ten days and of another size of the picture."""
    ten_days = struct.pack(">I", 864_000_000)
    mp4 = edit(good(), "moov/mvhd", lambda b: b[:16] + ten_days + b[20:])
    mp4 = edit(mp4, "moov/trak/tkhd", lambda b: b[:20] + ten_days + b[24:])
    return edit(mp4, "moov/trak/mdia/mdhd", lambda b: b[:16] + ten_days + b[20:])


@cache
def fragmented() -> bytes:
    """An MP4 of 70 frames, each a fragment with a time of its own in 64 bits."""
    file = io.BytesIO()
    options = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
    with av.open(file, "w", format="mp4", options=options) as output:
        stream = output.add_stream("libx264", rate=30, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for pixels in frames():
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


def with_run(count: int, times: int = 1) -> bytes:
    """A fragmented MP4, its first fragment `times` over, with a run of `count` samples in 16 bytes."""
    mp4 = fragmented()
    start = mp4.index(b"moof") - 4
    size = int.from_bytes(mp4[start : start + 4], "big")
    run = struct.pack(">I4sII", 16, b"trun", 0, count)
    fragment = edit(mp4[start : start + size], "moof/traf/trun/", lambda _: run)
    return mp4[:start] + fragment * times + mp4[start + size :]


def stamped(stamps: Callable[[int], int], ticks: int = 15_360) -> bytes:
    """A clip of 70 frames that have any 64-bit timestamps.

    Args:
        stamps: number of a frame -> its timestamp.
        ticks: of a second.
    """
    data = bytearray(fragmented())
    place = data.index(b"mdhd") + 4
    struct.pack_into(">I", data, place + 12, ticks)
    for number in range(len(frames())):
        place = data.index(b"tfdt", place) + 4
        assert data[place] == 1, "a version with 64 bits"
        struct.pack_into(">q", data, place + 4, stamps(number))
    return bytes(data)


def leaping() -> bytes:
    """A clip whose last frames are millions of years later."""
    return stamped(lambda number: 512 * number if number < 60 else 2**62 + 512 * number)


def many_streams(count: int) -> bytes:
    """An MP4 with the same video `count` times."""
    return edit(good(), "moov/trak/", lambda box: box * count)


def huge_vp8(frame: int) -> bytes:
    """An IVF whose `frame`-th frame says that it is 16383 x 16383."""
    ivf = bytearray(encode(frames(), codec="libvpx", container="ivf", options={"g": "1"}))
    place = 32
    for _ in range(frame):
        place += 12 + struct.unpack_from("<I", ivf, place)[0]
    if not frame:
        struct.pack_into("<HH", ivf, 12, 16383, 16383)
    # A key frame: three bytes of tag, three of start code, then the size.
    assert ivf[place + 12 + 3 : place + 12 + 6] == b"\x9d\x01\x2a"
    struct.pack_into("<HH", ivf, place + 12 + 6, 16383, 16383)
    return bytes(ivf)


def huge_jpeg() -> bytes:
    """An AVI of JPEG pictures that each say to be 16384 x 16384."""
    avi = encode(frames(10), codec="mjpeg", container="avi", pix_fmt="yuvj420p")
    small, large = struct.pack(">HH", 120, 160), struct.pack(">HH", 16384, 16384)
    return avi.replace(b"\xff\xc0\x00\x11\x08" + small, b"\xff\xc0\x00\x11\x08" + large)


@cache
def plain(width: int, height: int, count: int) -> bytes:
    """A bare H.264 stream of one colour."""
    return encode(
        np.full((count, height, width, 3), 90, dtype=np.uint8),
        container="h264",
        options={"preset": "ultrafast"},
    )


def damaged(share: float) -> bytes:
    """The good clip with the last part of its coded pictures overwritten.

    Args:
        share: of the bytes.
    """
    data = bytearray(good())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    first = end - round((end - start) * share)
    noise = np.random.default_rng(1).integers(0, 256, end - first, dtype=np.uint8)
    data[first:end] = noise.tobytes()
    return bytes(data)


def sound() -> bytes:
    """An MP4 with a sound track only."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), "fltp", "mono")
        tone.sample_rate = 16000
        output.mux(stream.encode(tone))
        output.mux(stream.encode(None))
    return file.getvalue()


def no_frames() -> bytes:
    """An MP4 whose video track has no frame."""
    mp4 = good()
    for box, size in (("stts", 8), ("stsz", 12), ("stsc", 8), ("stco", 8), ("stss", 8)):
        mp4 = edit(mp4, STBL + box, lambda _, size=size: bytes(size))  # type: ignore[misc]
    return mp4


def zipped() -> bytes:
    """A ZIP archive with a video in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clip.mp4", good())
    return file.getvalue()


def picture() -> bytes:
    """A PNG."""
    return encode(frames(1), codec="png", container="image2pipe", pix_fmt="rgb24")


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


NOISE = np.random.default_rng(0).integers(0, 256, 65_536, dtype=np.uint8).tobytes()

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
