"""Before any request: a generated clip of each kind of video, decoded on the GPU and on the CPU, and compared.

What a driver, a decoder or another FFmpeg does differently shows here, on the host where it happens.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import ClipError, first_line
from ..limits import DEFAULT_LIMITS
from ..sampling import Selection
from ..spec import STEPS_PER_LEVEL, ClipSpec
from ..video.acceleration import Acceleration
from ..video.decode import Decoded, windows

MEAN_LEVELS, MOST_LEVELS = 1.0, 4.0
"""By how many levels of 255 a clip's frames may differ from the CPU's, in the mean and at most. On x86 they are
the same (tests/test_nvdec.py); on ARM swscale rounds in another way."""

_SIZE = 1920, 1080
_TIMES = (0, 1, 2, 4, 5, 7, 10, 11)
"""When the frames are shown, in thirtieths of a second: at no steady rate."""


@dataclass(frozen=True)
class Kind:
    """What NVDEC decodes, and a generated clip can be made of."""

    codec: str
    """FFmpeg's name of the decoder."""
    bits: int
    encoder: str
    """FFmpeg's name of an encoder that PyAV has."""
    options: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.codec} {self.bits} bit"


KINDS = (
    Kind("h264", 8, "libx264", {"preset": "veryfast", "bf": "2"}),
    Kind("hevc", 8, "libx265", {"preset": "ultrafast", "x265-params": "bframes=2:log-level=error"}),
    Kind("hevc", 10, "libx265", {"preset": "ultrafast", "x265-params": "bframes=2:log-level=error"}),
    Kind("vp9", 8, "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
)
"""All that the GPU may take. AV1 is not among them: PyAV chooses a decoder for it that has no hardware."""


def bits_of(frame: VideoFrame) -> int:
    """Bits of each sample of a frame, on whichever device it is."""
    return max(component.bits for component in (frame.sw_format or frame.format).components)


def why_refused(kind: Kind, spec: ClipSpec, acceleration: Acceleration) -> str | None:
    """Why a kind is not decoded on the GPU; None where its frames are those of the CPU, at the same times."""
    try:
        data = generated(kind)
    except (av.FFmpegError, ValueError) as error:
        return (
            f"there is no {kind.encoder} to make a clip of that it could be checked with ({first_line(error)})"
        )
    try:
        (there,) = windows(data, spec, Selection(), DEFAULT_LIMITS, acceleration=acceleration)
    except (av.FFmpegError, ClipError) as error:
        return f"{first_line(error)} Has the driver its video part, libnvcuvid?"
    # Whatever else CUDA or its driver say.
    except Exception as error:
        return first_line(error)
    (here,) = windows(data, spec, Selection(), DEFAULT_LIMITS)
    return difference(here, there)


def difference(here: Decoded, there: Decoded) -> str | None:
    """What makes a view on the GPU another than the CPU's; None where it is the same."""
    for name in ("frame_seconds", "source_frames", "width", "height", "warnings"):
        right, got = getattr(here, name), getattr(there, name)
        if right != got:
            return f"its {name} are {got}, and the CPU's {right}"
    apart = np.abs(here.frames.astype(np.int32) - there.frames) / STEPS_PER_LEVEL
    mean, most = float(apart.mean()), float(apart.max())
    if mean <= MEAN_LEVELS and most <= MOST_LEVELS:
        return None
    return (
        f"its frames differ from the CPU's by {mean:.2f} levels in the mean and {most:.2f} at most "
        f"({MEAN_LEVELS:g} and {MOST_LEVELS:g} are allowed)"
    )


def generated(kind: Kind) -> bytes:
    """A clip of 1080p: saturated colours and fine grain that move, B-frames where the codec has them, no steady
    rate.

    Raises:
        av.FFmpegError, ValueError: PyAV has no such encoder.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="matroska" if kind.codec == "vp9" else "mp4") as output:
        stream = cast(VideoStream, output.add_stream(kind.encoder, rate=30, options=kind.options))
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p" if kind.bits == 8 else f"yuv420p{kind.bits}le"
        stream.codec_context.time_base = Fraction(1, 30)
        stream.codec_context.bit_rate = 8_000_000
        for number, time in enumerate(_TIMES):
            frame = VideoFrame.from_ndarray(_picture(number), format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def _picture(number: int) -> npt.NDArray[np.uint8]:
    """Frame `number`, uint8 [H, W, 3], RGB."""
    width, height = _SIZE
    x, y = np.arange(width), np.arange(height)[:, None]
    shift = 16 * number
    red = 127.5 + 127.5 * np.sin((x + shift) / 97) * np.ones((height, 1))
    green = 127.5 + 127.5 * np.sin((y - shift) / 61) * np.ones(width)
    blue = 255.0 * (((x + shift) // 160 + y // 120) % 2)
    grain = 12 * np.sin(x * 1.7) * np.cos(y * 1.3)
    levels: npt.NDArray[np.float64] = np.stack([red, green, blue], -1) + grain[..., None]
    return levels.clip(0, 255).astype(np.uint8)
