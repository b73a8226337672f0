"""Bytes of a video -> frames at the model's size. PyAV (FFmpeg) and OpenCV's resize; no torch.

The way of one window:

    bytes -> demux: packets from the key frame before the window to its end
          -> their timestamps say which frames are in the window, `sampling` which of those are sampled
          -> decode the packets once, skipping frames that nothing refers to and that are not sampled
          -> convert only the sampled ones: RGB, short side, rotation, centre crop

Where the packets' timestamps cannot be trusted (missing, or a frame that they promise does not come out),
the window is decoded once more to count what is really there. Sizes, durations and frame counts in headers
decide nothing.

The result equals the published recipe (full-size RGB, ``F.interpolate(bilinear, align_corners=False)``) to
within rounding; swscale's own scaler does not, and would cost accuracy: it differs by up to 40/255.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from . import sampling
from .container import REENCODE, Source, unreadable
from .errors import ClipError, ClipWarning
from .limits import DEFAULT_LIMITS, Limits
from .resize import Pixels, Resizer
from .sampling import Selection
from .spec import STEPS_PER_LEVEL, ClipSpec


@dataclass(frozen=True, slots=True)
class Decoded:
    """The sampled frames of one window, and where they are from."""

    frames: Pixels
    """int16 [T, H, W, 3], RGB, in steps of 1/128 level; T, H and W are the ClipSpec's."""
    start_seconds: float
    """Start of the window, from the clip's first frame."""
    end_seconds: float
    """End of what the window covers: earlier than asked where the clip is shorter."""
    source_frames: int
    """Frames of the clip inside the window, before sampling."""
    source_fps: float
    """Measured inside the window; 0 where it has one frame only."""
    width: int
    """Of the clip as shown (after rotation), in pixels."""
    height: int
    """Of the clip as shown (after rotation), in pixels."""
    warnings: tuple[ClipWarning, ...] = ()

    def rounded(self) -> npt.NDArray[np.uint8]:
        """The frames in whole levels, uint8 [T, H, W, 3]: for people, not for the model."""
        half = STEPS_PER_LEVEL // 2
        return ((self.frames + half) // STEPS_PER_LEVEL).astype(np.uint8)


def windows(
    data: bytes,
    spec: ClipSpec,
    selection: Selection,
    limits: Limits,
) -> Iterator[Decoded]:
    """Decode the windows of a video that a request asks for, one after the other.

    Args:
        data: a whole video file.
        spec: what the model eats.
        selection: which windows.
        limits: what it may cost.

    Raises:
        ClipError: the bytes are no video, hold no frame there, or cost too much.
    """
    yield decode(data, spec, selection.start_seconds, selection.end_seconds, limits)


def decode(
    data: bytes,
    spec: ClipSpec,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Decoded:
    """Decode the window of a clip that stands for [start_seconds, end_seconds).

    Args:
        data: a whole video file.
        spec: what the model eats.
        start_seconds: from the clip's first frame.
        end_seconds: default: one window after the start. Of a longer range the middle window is taken, of a
            shorter one all frames.
        limits: what it may cost.

    Raises:
        ClipError: the bytes are no video, hold no frame there, or cost too much.
    """
    try:
        with Source(data, limits) as source:
            if end_seconds is None:
                end_seconds = start_seconds + spec.window_seconds
            elif end_seconds - start_seconds > spec.window_seconds:
                end_seconds = min(end_seconds, max(start_seconds, source.seconds()))
                start_seconds, end_seconds = sampling.centred_window(
                    start_seconds, end_seconds, spec.window_seconds
                )
            return _Window(source, spec, start_seconds, end_seconds).decode()
    except (av.FFmpegError, MemoryError) as error:
        raise unreadable(data, error) from error


# Decoders that look at `skip_frame` anew for each packet; libdav1d reads it once, when it is opened.
_SKIPS_PER_PACKET = frozenset({"h264", "hevc"})


class _Window:
    """One window of one open container: which packets, which frames, then the frames themselves."""

    def __init__(self, source: Source, spec: ClipSpec, start_seconds: float, end_seconds: float) -> None:
        self.source = source
        self.spec = spec
        self.start_seconds = start_seconds
        self.end_seconds = end_seconds
        self.first, self.stop = sampling.window_ticks(
            start_seconds, end_seconds, source.time_base, source.origin
        )
        self.resize = Resizer(spec)
        self.damaged = 0

    def decode(self) -> Decoded:
        packets = self.source.packets(self.first, self.stop)
        promised = self._promised(packets)
        stamps = promised
        frames = self._sampled(packets, stamps, skip=True) if stamps else None
        if frames is None:
            stamps = self._count(packets)
            damaged = self.damaged
            frames = self._sampled(packets, stamps, skip=False) if stamps else None
            self.damaged = damaged  # of the whole window; sampling may have ended before the damage
        if frames is None:
            raise self._nothing(packets)
        if self.damaged and len(stamps) * 2 < len(promised):
            raise ClipError(
                "CORRUPT_VIDEO",
                422,
                f"Only {len(stamps)} of the {len(promised)} frames asked for could be decoded.",
                REENCODE,
            )
        return self._describe(frames, stamps)

    def _promised(self, packets: list[Packet[VideoStream]]) -> list[int]:
        """Timestamps of the window's frames as the packets have them; none where they cannot be relied on."""
        if self.source.counted or any(packet.pts is None for packet in packets):
            return []
        stamps = {cast(int, p.pts) for p in packets if not p.is_discard}
        return sorted(pts for pts in stamps if self.first <= pts < self.stop)

    def _decoded(
        self, packets: list[Packet[VideoStream]], wanted: frozenset[int] | None
    ) -> Iterator[tuple[int, VideoFrame]]:
        """(timestamp, frame) of every frame that comes out; damage is counted and passed over.

        Args:
            wanted: timestamps to decode; others are skipped where nothing refers to them. None: all.
        """
        context = self.source.stream.codec_context
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        if context.name not in _SKIPS_PER_PACKET:
            wanted = None
        self.damaged = 0
        flush: list[Packet[VideoStream] | None] = [*packets, None]
        count = 0
        for packet in flush:
            if wanted is not None and packet is not None:
                context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                self.source.check_refusal()
                self.damaged += 1
                continue
            for frame in frames:
                self.source.limits.check_size(frame.width, frame.height)
                self.damaged += frame.is_corrupt
                stamp = None if self.source.counted else frame.pts if frame.pts is not None else frame.dts
                yield (count * self.source.ticks_per_frame if stamp is None else stamp), frame
                count += 1

    def _count(self, packets: list[Packet[VideoStream]]) -> list[int]:
        """Timestamps of the window's frames as they come out of the decoder."""
        return sorted({pts for pts, _ in self._decoded(packets, None) if self.first <= pts < self.stop})

    def _sampled(self, packets: list[Packet[VideoStream]], stamps: list[int], *, skip: bool) -> Pixels | None:
        """The sampled frames [T, H, W, 3]; None where one of them does not come out."""
        positions: dict[int, list[int]] = {}
        for position, index in enumerate(sampling.uniform_indices(len(stamps), self.spec.num_frames)):
            positions.setdefault(stamps[index], []).append(position)
        out = np.empty((self.spec.num_frames, self.spec.crop, self.spec.crop, 3), dtype=np.int16)
        missing = set(positions)
        for pts, frame in self._decoded(packets, frozenset(positions) if skip else None):
            if pts in missing:
                out[positions[pts]] = self.resize(frame)
                missing.discard(pts)
                if not missing:
                    return out
        return None

    def _nothing(self, packets: list[Packet[VideoStream]]) -> ClipError:
        length = self.source.seconds()
        if packets and self.start_seconds < length:
            return ClipError(
                "NO_FRAMES",
                422,
                f"No frame could be decoded between {self.start_seconds:g} s and {self.end_seconds:g} s.",
                REENCODE,
            )
        if length == 0:
            return ClipError(
                "NO_FRAMES", 422, "The video stream has no frames.", "The file is cut short; send it again."
            )
        return ClipError(
            "START_BEYOND_END",
            400,
            f"start_seconds is {self.start_seconds:g}, but the clip lasts {length:.3f} s.",
            f"Choose a start_seconds from 0 up to {length:.3f}.",
        )

    def _describe(self, frames: Pixels, stamps: list[int]) -> Decoded:
        seconds = [float((stamp - self.source.origin) * self.source.time_base) for stamp in stamps]
        if len(stamps) > 1:
            frame_seconds = (seconds[-1] - seconds[0]) / (len(stamps) - 1)
        else:
            frame_seconds = float(self.source.ticks_per_frame * self.source.time_base)
        decoded = Decoded(
            frames=frames,
            start_seconds=self.start_seconds,
            end_seconds=min(self.end_seconds, seconds[-1] + frame_seconds),
            source_frames=len(stamps),
            source_fps=1 / frame_seconds if len(stamps) > 1 else 0.0,
            width=self.resize.shown[0],
            height=self.resize.shown[1],
        )
        return replace(decoded, warnings=tuple(self._warnings(decoded, frame_seconds)))

    def _warnings(self, decoded: Decoded, frame_seconds: float) -> Iterator[ClipWarning]:
        covered, window = decoded.end_seconds - decoded.start_seconds, self.spec.window_seconds
        # The last frame of a clip may be shown for less than a frame's time: that is not a short clip.
        if covered < window - 1.5 * frame_seconds:
            yield ClipWarning(
                "SHORT_WINDOW",
                f"The window covers {covered:.3f} s of the {window:.3f} s that the model was trained on; "
                f"its {decoded.source_frames} frames were spread over {self.spec.num_frames}.",
            )
        elif decoded.source_frames < self.spec.num_frames:
            yield ClipWarning(
                "LOW_FRAME_RATE",
                f"The window has {decoded.source_frames} frames ({decoded.source_fps:.1f} a second); "
                f"some stand for several of the model's {self.spec.num_frames}.",
            )
        if self.damaged:
            yield ClipWarning("CORRUPT_FRAMES", f"{self.damaged} packets or frames of the window are damaged.")
