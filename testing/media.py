"""Videos made on the spot for tests: any container, codec, frame rate, GOP and timestamps."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

Frames = npt.NDArray[np.uint8]


def textured_frames(width: int, height: int, count: int, seed: int = 0) -> Frames:
    """Smooth coloured noise that slides: uint8 [count, height, width, 3], every frame different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 8, (width + 4 * count) // 8 + 8, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + 4 * count, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, 4 * i : 4 * i + width] for i in range(count)])


def numbered_frames(count: int) -> Frames:
    """Frames that say their number, up to 511, in nine squares, light for 1: uint8 [count, 64, 64, 3]."""
    out = np.full((count, 64, 64, 3), 30, dtype=np.uint8)
    for number, frame in enumerate(out):
        for bit, corner in enumerate(_SQUARES):
            if number >> bit & 1:
                frame[corner[0] : corner[0] + 16, corner[1] : corner[1] + 16] = 220
    return out


def numbers(frames: Frames) -> list[int]:
    """What `numbered_frames` say, coded and decoded: uint8 [T, 64, 64, 3]."""
    light = [frames[:, y + 3 : y + 13, x + 3 : x + 13].mean(axis=(1, 2, 3)) > 125 for y, x in _SQUARES]
    return [sum(bool(on) << bit for bit, on in enumerate(bits)) for bits in zip(*light, strict=True)]


_SQUARES = [(4 + 20 * row, 4 + 20 * column) for row in range(3) for column in range(3)]


@contextmanager
def same_priority() -> Iterator[None]:
    """Give this thread its priority back. For root, the encoder libsvtav1 makes its caller a real-time thread,
    and so whatever that starts later: all others would starve.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def encode(
    frames: Frames,
    fps: float = 30,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[float] | None = None,
    ticks: int = 90_000,
) -> bytes:
    """A video file in memory.

    Args:
        frames: uint8 [T, H, W, 3].
        fps: frames a second; with `times`, only what the header says.
        options: of the encoder, as ``{"g": "12", "bf": "2"}``.
        times: seconds of each frame, for a variable rate.
        ticks: of a second, for those.
    """
    file = io.BytesIO()
    with same_priority(), av.open(file, "w", format=container) as output:
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast(VideoStream, output.add_stream(codec, rate=rate, options=options or {}))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        # The same bytes on any number of cores; and libvpx's threads would take ten times the CPU time.
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, ticks)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.time_base = Fraction(1, ticks)
                frame.pts = round(times[index] * ticks)
            else:
                frame.time_base = 1 / Fraction(fps).limit_denominator(1001)
                frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def turn(mp4: bytes, degrees: int) -> bytes:
    """The same MP4 with a display matrix that turns it clockwise by 90, 180 or 270 degrees."""
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    a, b, c, d = {
        90: (zero, one, minus, zero),
        180: (minus, zero, zero, minus),
        270: (zero, minus, one, zero),
    }[degrees]
    # The matrix lies 40 bytes into the version 0 track header: a b u c d v x y w, u v w in 2.30.
    start = mp4.index(b"tkhd") + 4 + 40
    matrix = a + b + zero + c + d + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    return mp4[:start] + matrix + mp4[start + 36 :]


def trimmed(mp4: bytes, seconds: float) -> bytes:
    """The same packets with the first `seconds` cut off by an edit list, as ``ffmpeg -ss -c copy`` cuts."""
    file = io.BytesIO()
    with av.open(io.BytesIO(mp4), "r") as source, av.open(file, "w", format="mp4") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        offset = round(seconds / (stream.time_base or 1))
        for packet in source.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = copy
            output.mux(packet)
    return file.getvalue()


def copied(video: bytes, container: str) -> bytes:
    """The same packets in another container, with the timestamps that FFmpeg makes of them."""
    file = io.BytesIO()
    with av.open(io.BytesIO(video), "r") as source, av.open(file, "w", format=container) as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    return file.getvalue()


def in_vfw(avi: bytes, fourcc: bytes) -> bytes:
    """An AVI's packets in Matroska, as mkvmerge copies them: with a BITMAPINFOHEADER and times of decoding.

    Args:
        avi: of MPEG-4 or H.264.
        fourcc: as ``b"XVID"``.
    """
    file = io.BytesIO()
    with av.open(io.BytesIO(avi), "r") as source, av.open(file, "w", format="matroska") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        extra = stream.codec_context.extradata or b""
        sizes = 40 + len(extra), stream.codec_context.width, stream.codec_context.height
        copy.codec_context.extradata = struct.pack("<Iii2H4s5I", *sizes, 1, 24, fourcc, *[0] * 5) + extra
        for packet in source.demux(stream):
            if packet.size:
                packet.pts, packet.stream = packet.dts, copy
                output.mux(packet)
    mkv = file.getvalue()
    for native in (b"V_MPEG4/ISO/ASP", b"V_MPEG4/ISO/AVC"):
        mkv = mkv.replace(native, b"V_MS/VFW/FOURCC")
    return mkv


def without_reorder_count(h264: bytes) -> bytes:
    """The same x264 stream, in any container, without its promise by how many frames it reorders."""
    start = h264.index(b"\x67\x64")
    bits = "".join(f"{byte:08b}" for byte in h264[start : start + 80])
    place = bits.index("1111" + "0001001" * 2)  # bitstream_restriction_flag and what x264 writes after it
    end = place + 18
    for _ in range(2):  # max_num_reorder_frames, max_dec_frame_buffering: exp-Golomb numbers
        end += 2 * (bits.index("1", end) - end) + 1
    length = end // 8 + 1
    changed = (bits[:place] + "01").ljust(length * 8, "0")  # no restriction, the stop bit
    sps = int(changed, 2).to_bytes(length, "big")
    return h264[:start] + sps + h264[start + length :]


def program_tables(sizes: Sequence[int]) -> bytes:
    """MPEG-TS packets with program association tables, all programs of which are different ones.

    Args:
        sizes: programs in each.
    """
    out, number = [], 1_000
    for version, size in enumerate(sizes):
        entries = b"".join(
            struct.pack(">HH", number + k, 0xE000 | (number + k) % 0x1F00 + 32) for k in range(size)
        )
        number += size
        head = struct.pack(">BHHBBB", 0, 0xB000 | (len(entries) + 9), 1, 0xC1 | version % 32 << 1, 0, 0)
        section = b"\0" + head + entries + struct.pack(">I", _mpeg_crc(head + entries))
        for place in range(0, len(section), 184):
            start = 0x40 if place == 0 else 0
            out.append(bytes([0x47, start, 0, 0x10]) + section[place : place + 184].ljust(184, b"\xff"))
    return b"".join(out)


def _mpeg_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def with_more_streams(frames: Frames, other: Frames) -> bytes:
    """An MP4 with sound, then `frames`, then `other` as a second video stream."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=16000)
        streams = [output.add_stream("libx264", rate=30) for _ in (frames, other)]
        for stream, pictures in zip(streams, (frames, other), strict=True):
            stream.width, stream.height, stream.pix_fmt = pictures.shape[2], pictures.shape[1], "yuv420p"
            stream.codec_context.thread_count = 1  # as `encode` does
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), "fltp", "mono")
        samples.sample_rate = 16000
        output.mux(sound.encode(samples))
        for stream, pictures in zip(streams, (frames, other), strict=True):
            for picture in pictures:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(sound.encode(None))
        for stream in streams:
            output.mux(stream.encode(None))
    return file.getvalue()


def with_bad_metadata(mp4: bytes) -> bytes:
    """The same MP4 with a byte in its metadata that is not UTF-8."""
    start = mp4.index(b"Lavf")
    return mp4[:start] + b"\xff\xfe" + mp4[start + 2 :]


def cut_out(video: bytes, first: float, last: float) -> bytes:
    """The same video without the packets between two times, as a recorder that lost its source writes it."""
    file = io.BytesIO()
    with av.open(io.BytesIO(video), "r") as source, av.open(file, "w", format="matroska") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is None or packet.dts is None or first <= packet.pts * stream.time_base < last:  # type: ignore[operator]
                continue
            packet.stream = copy
            output.mux(packet)
    return file.getvalue()


def broken(video: bytes, first: float, last: float) -> bytes:
    """The same video with the bytes of its packets between two times (in seconds) overwritten."""
    out = bytearray(video)
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.pts is not None and first <= float(packet.pts * packet.time_base) < last:
                assert packet.pos is not None
                out[packet.pos + 5 : packet.pos + packet.size] = bytes(packet.size - 5)
    return bytes(out)
