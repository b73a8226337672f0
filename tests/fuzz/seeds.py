"""Valid files of every container and codec that is let in: made here, or kept in tests/seeds."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
from actionrec.video.container import CODECS, CONTAINERS, first_video, open_container

from testing.media import encode, textured_frames
from tests.hostile import CASES, Lure

MOST_BYTES = 65_536
"""Of an input."""

COMMITTED = Path(__file__).parent.parent / "seeds"
"""``<container>-<codec>.<ext>``: valid files that PyAV cannot make, because it has no encoder for them."""

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    # encoder -> pixel format, options
    "libx264": ("yuv420p", {"g": "12", "bf": "2", "preset": "ultrafast"}),
    "libx265": ("yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "libsvtav1": ("yuv420p", {"preset": "13", "svtav1-params": "lp=1"}),
    "libvpx": ("yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "libvpx-vp9": ("yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "mpeg4": ("yuv420p", {"bf": "2"}),
    "mpeg2video": ("yuv420p", {}),
    "mpeg1video": ("yuv420p", {}),
    "mjpeg": ("yuvj420p", {}),
    "h263": ("yuv420p", {}),
    "flv": ("yuv420p", {}),
    "libtheora": ("yuv420p", {}),
    "wmv1": ("yuv420p", {}),
    "wmv2": ("yuv420p", {}),
    "msmpeg4v2": ("yuv420p", {}),
    "msmpeg4": ("yuv420p", {}),
    "prores": ("yuv422p10le", {}),
    "dnxhd": ("yuv422p", {"profile": "dnxhr_lb"}),
    "gif": ("rgb8", {}),
}
_CONTAINERS = {
    "mp4": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg4", "mpeg2video", "mjpeg"),
    "mov": ("libx264", "mjpeg", "prores", "dnxhd", "mpeg4"),
    "3gp": ("h263", "mpeg4"),
    "matroska": (
        "libx264",
        "libx265",
        "libvpx",
        "libvpx-vp9",
        "mpeg4",
        "libtheora",
        "msmpeg4",
        "prores",
    ),
    "webm": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "avi": ("libx264", "mpeg4", "mjpeg", "msmpeg4v2", "msmpeg4", "wmv1"),
    "mpegts": ("libx264", "libx265", "mpeg2video"),
    "mpeg": ("mpeg1video", "mpeg2video"),
    "flv": ("libx264", "flv"),
    "asf": ("wmv1", "wmv2", "msmpeg4"),
    "ogg": ("libtheora", "libvpx"),
    "gif": ("gif",),
    "ivf": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "h264": ("libx264",),
    "hevc": ("libx265",),
    "m4v": ("mpeg4",),
    "mpeg2video": ("mpeg2video",),
}
KINDS = tuple(
    (container, codec)
    for container, codecs in _CONTAINERS.items()
    for codec in codecs
    if codec in av.codecs_available
)
"""(container, encoder) of all that this PyAV can make. `blind` counts on the order."""

# The smallest sizes that an encoder takes.
_SIDES = {"h263": (176, 144), "dnxhd": (256, 128), "libsvtav1": (64, 64)}


@cache
def valid(container: str, codec: str) -> bytes:
    """A good file of 36 frames."""
    width, height = _SIDES[codec] if codec in ("h263", "dnxhd") else (96, 64)
    return _made(container, codec, width, height, 36)


@cache
def small(container: str, codec: str) -> bytes:
    """A good file that is quick to decode: 12 frames, or 6 where each is large."""
    width, height = _SIDES.get(codec, (64, 48))
    return _made(container, codec, width, height, 6 if codec in ("gif", "prores", "dnxhd") else 12)


def committed() -> dict[str, bytes]:
    """The valid files of tests/seeds by their names."""
    return {path.stem: path.read_bytes() for path in sorted(COMMITTED.glob("*-*.*")) if path.is_file()}


def found() -> dict[str, bytes]:
    """The inputs of tests/seeds/found by their names: what was new or did harm once, shrunk."""
    return {path.stem: path.read_bytes() for path in sorted((COMMITTED / "found").glob("*.bin"))}


def starts() -> Iterator[tuple[str, bytes]]:
    """(name, input) of each input that the corpus begins with: seeds, and what is known to be bad."""
    yield from seeds()
    yield from found().items()
    nowhere = Lure(Path("nowhere"), "http://127.0.0.1:9")
    for case in CASES:
        if len(data := case.make(nowhere)) <= MOST_BYTES:
            yield f"hostile-{re.sub(r'[^a-z0-9]+', '-', case.name.lower())}", data


def seeds() -> Iterator[tuple[str, bytes]]:
    """(name, file) of each seed, made or kept."""
    for container, codec in KINDS:
        yield f"{container}-{codec}", small(container, codec)
    yield from committed().items()


def without_seed() -> list[str]:
    """What is let in and would not be fuzzed: demuxers and decoders of no seed. A decoder's other
    implementations (libdav1d, av1) count as one.
    """
    demuxers, codecs = set(), set()
    for _, data in seeds():
        with open_container(io.BytesIO(data)) as container:
            demuxers.update(container.format.name.split(","))
            stream = first_video(container)
            if stream is not None and stream.codec_context is not None:
                codecs.add(stream.codec_context.codec.id)
    missing = {name for name in CODECS & av.codecs_available if av.Codec(name, "r").id not in codecs}
    return sorted(missing | (set(CONTAINERS.split(",")) - demuxers))


def _made(container: str, codec: str, width: int, height: int, count: int) -> bytes:
    os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to standard error past FFmpeg's log
    pix_fmt, options = ENCODERS[codec]
    frames = textured_frames(width, height, count)
    return encode(frames, codec=codec, container=container, pix_fmt=pix_fmt, options=options)
