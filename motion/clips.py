"""Video files of random scenes, for demos, tests, calibration and evaluation."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from motion.backdrops import Backdrops
from motion.recipe import WINDOW_SECONDS, random_scene
from motion.scene import LABELS, OPPOSITE, Floats, Pose, Track
from motion.textures import Image

SIZES: tuple[tuple[int, int], ...] = (
    (320, 240),
    (160, 120),
    (240, 320),
    (256, 256),
    (426, 240),
    (640, 360),
    (360, 640),
    (640, 480),
    (1280, 720),
)
"""Width and height of clips, in pixels; smaller ones are drawn more often."""

ORDINARY = 0.5
"""The default difficulty: everything varies, half as often as in the hardest training."""

_SIZE_WEIGHTS = (0.3, 0.14, 0.1, 0.1, 0.12, 0.08, 0.06, 0.06, 0.04)
_RATES = (10, 12, 15, 24, 25, 30, 50, 60)
_RATE_WEIGHTS = (0.06, 0.06, 0.12, 0.16, 0.2, 0.26, 0.07, 0.07)
_QUALITY_CODECS = ("libx264", "libx265")
_ENCODER_OPTIONS = {
    # Its macroblock tree reads memory that it has not written (with AVX-512; PyAV 18.1's x264): the same frames
    # gave other files.
    "libx264": {"preset": "veryfast", "mbtree": "0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=error:pools=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


@dataclass(frozen=True, slots=True)
class MotionClip:
    """A video file and its content."""

    data: bytes
    """The whole file."""
    label: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fps: int
    codec: str
    """Encoder, by FFmpeg's name."""
    seed: int
    """Seed with which `random_clip` makes the same clip again."""
    main: Track | None = field(default=None, compare=False, repr=False)
    """Where the main object is, at seconds from the first frame; None where that is not known."""

    def discs(self, times_seconds: Floats) -> Floats:
        """The discs that the main object fills at some instants.

        Args:
            times_seconds: float64 [T], from the first frame.

        Returns:
            float64 [T, 3]: x and y of the middle, and the radius, in pixels; the picture's upper left corner is
            0, 0.

        Raises:
            ValueError: it is not known where the object is.
        """
        if self.main is None:
            raise ValueError(f"the place of the object in clip {self.seed} is not known")
        pose, side = self.main(times_seconds), min(self.width, self.height)
        return np.stack(
            [pose.x * side + self.width / 2, pose.y * side + self.height / 2, pose.size * side / 2], axis=1
        )


def encode(frames: Image, fps: int, *, codec: str = "libx264", crf: int = 23, container: str = "mp4") -> bytes:
    """Encode a clip.

    Args:
        frames: uint8 [T, H, W, 3], RGB; H and W even.
        fps: frames a second, constant.
        codec: one of FFmpeg's encoders.
        crf: quality on x264's scale, 0 (best) to 51; for other encoders the nearest value of their own scale.
        container: one of FFmpeg's muxers.

    Raises:
        ValueError: the frames have a shape or size that no codec here takes.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"frames must be [T, H, W, 3] with even H and W, got {frames.shape}")
    buffer = io.BytesIO()
    options = dict(_ENCODER_OPTIONS.get(codec, {}))
    # Without "bitexact" Matroska and WebM files get a number at random.
    with av.open(buffer, "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        stream = cast(VideoStream, output.add_stream(codec, rate=fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        if codec in _QUALITY_CODECS or codec == "libvpx-vp9":
            options["crf"] = str(crf)
        else:
            # mpeg4 and mjpeg take a quantiser, 2 to 31. Six steps of crf halve the bits, as doubling the
            # quantiser does.
            stream.codec_context.flags |= 2  # AV_CODEC_FLAG_QSCALE
            stream.codec_context.global_quality = round(2 * 2 ** ((crf - 18) / 6)) * 118  # FF_QP2LAMBDA
        stream.options = cast(dict[str, object], options)
        stream.codec_context.thread_count = 1
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def random_clip(
    seed: int,
    label: str | None = None,
    codec: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    fps: int | None = None,
    seconds: float | None = None,
    difficulty: float = ORDINARY,
    reverse: bool = False,
    backdrops: Backdrops | None = None,
) -> MotionClip:
    """A clip; the same arguments give the same clip.

    Args:
        seed: decides everything that the other arguments leave open.
        label: one of `LABELS`.
        codec: one of FFmpeg's encoders.
        size: width and height in pixels, both even.
        fps: frames a second.
        seconds: the clip's length; a fair clip has at least one window.
        difficulty: 0 to 1, see `recipe`; training goes up to 1.
        reverse: encode the same frames backwards; the clip then has the opposite label.
        backdrops: real videos, for some of the backgrounds.
    """
    rng = np.random.default_rng(seed)
    drawn_size = SIZES[rng.choice(len(SIZES), p=_SIZE_WEIGHTS)]
    drawn_fps = int(rng.choice(_RATES, p=_RATE_WEIGHTS))
    drawn_seconds = rng.uniform(2.2, 2.6) if rng.random() < 0.75 else rng.uniform(2.6, 6.0)
    drawn_codec = ("libx264", "libx264", "libx264", "libx265", "libvpx-vp9", "mpeg4", "mjpeg")[rng.integers(7)]
    crf = int(rng.integers(18, 36))
    width, height = size or drawn_size
    fps = fps or drawn_fps
    seconds = max(WINDOW_SECONDS, drawn_seconds) if seconds is None else seconds
    codec = codec or drawn_codec
    scene = random_scene(rng, label, difficulty, seconds=seconds, fps=fps, backdrops=backdrops)
    frames = scene.render(width, height, np.arange(round(seconds * fps)) / fps)
    shown, track = scene.label, scene.main.track
    if reverse:
        frames, shown = frames[::-1], LABELS[OPPOSITE[LABELS.index(shown)]]
        last = (len(frames) - 1) / fps

        def track(times: Floats) -> Pose:
            return scene.main.track(last - times)

    container = "webm" if codec == "libvpx-vp9" else "mp4"
    data = encode(frames, fps, codec=codec, crf=crf, container=container)
    return MotionClip(data, shown, width, height, fps, codec, seed, track)


def write_clips(folder: Path, count: int, seed: int) -> list[Path]:
    """Write `count` clips, with each label in turn, as ``<label>-<seed>.<ending>``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        clip = random_clip(seed + index, LABELS[index % len(LABELS)])
        ending = "webm" if clip.codec == "libvpx-vp9" else "mp4"
        path = folder / f"{clip.label.replace(' ', '-')}-{clip.seed}.{ending}"
        path.write_bytes(clip.data)
        paths.append(path)
    return paths
