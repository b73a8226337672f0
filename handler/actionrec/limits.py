"""What one request may ask for: every limit, in one place.

The defaults are what an archive is built with; they travel in its ``model-config.yaml`` beside the ClipSpec.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may bring, ask for, or cost."""

    body_bytes: int = 104_857_600
    """Of the video file. TorchServe refuses larger bodies before (``max_request_size``)."""
    pixels: int = 8_294_400
    """Of a frame, width x height as coded: 3840x2160."""
    frames: int = 100_000
    """Decoded for one request: almost an hour at 30 a second."""
    streams: int = 64
    """In the file, of any kind."""
    seconds: float = 86_400.0
    """The largest time that an option may name; beyond a day a number is a mistake."""
    decode_seconds: float = 10.0
    """Wall clock of decoding for a request of one window."""
    windows: int = 64
    """Views of one request: windows x crops."""
    stride_seconds: float = 0.1
    """The smallest stride of a timeline. The less it is, the more frames are kept for windows to come."""


DEFAULT_LIMITS = Limits()
