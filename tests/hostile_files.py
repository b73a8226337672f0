"""Files that are broken, or lie about themselves: how each is made."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from functools import cache

import av
import numpy as np

from testing.media import Frames, encode, textured_frames


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


NOISE = np.random.default_rng(0).integers(0, 256, 65_536, dtype=np.uint8).tobytes()
