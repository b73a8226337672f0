"""Decodes large videos on a GPU, and leaves the others to whoever decodes otherwise.

video -> opened: large, of a codec that has passed the check? -> decoded, converted -> views
                             |                                        |
                             +-- no                                   +-- damage, an error, an odd frame
                             v                                        v
                             the CPU's way, from the first view that is missing
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from threading import Lock
from typing import Any

import torch
from av.video.frame import VideoFrame

from ..errors import ClipError, first_line
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from ..video.acceleration import Hardware as OpenedWith
from ..video.acceleration import NotTakenError
from ..video.container import Source
from ..video.decode import Decoded, windows
from ..video.window_reader import Room, new_room
from . import check
from .check import Kind
from .convert import PlaneConverter
from .hardware import Hardware, Nvdec

logger = logging.getLogger(__name__)

LEAST_PIXELS = 1920 * 1080
"""Pixels of a frame from which on a video is decoded on the GPU. To start a decoder there takes longer than a
CPU needs for a smaller clip (torchcodec's issue 344: at 480 x 270 a twentieth of its speed)."""

_DAMAGE = "corrupt_frames"
"""The warning that packets were damaged. A GPU fills gaps in its own way, and does not always say so."""


class GpuDecoder:
    """A GPU that decodes. Thread-safe.

    Args:
        spec: what the model eats.
        hardware: the GPU's decoder.
        room: gives the arrays for frames.
    """

    def __init__(self, spec: ClipSpec, hardware: Hardware, room: Room = new_room) -> None:
        self._hardware = hardware
        self._room = room
        self._refused: dict[Kind, str] = {}
        """Why kinds are left to the CPU. While they are checked, none is."""
        for kind in check.KINDS:
            reason = check.why_refused(kind, spec, self)
            if reason is not None:
                self._refused[kind] = reason
                logger.warning("The GPU does not decode %s: %s", kind.name, reason)
        self._taken = self._left = 0
        self._lock = Lock()

    @classmethod
    def load(cls, spec: ClipSpec, device: torch.device, room: Room) -> GpuDecoder | None:
        """The decoder of the GPU that a model runs on; None, with a line in the log, where it runs on no GPU.

        Args:
            spec: what the model eats.
            device: where the model runs; a GPU with its number.
            room: gives the arrays for frames.
        """
        if device.type != "cuda":
            logger.warning("decode: gpu has no effect: the model runs on %s", device)
            return None
        return cls(spec, Nvdec(device), room)

    @property
    def hardware(self) -> OpenedWith:
        """See `video.acceleration.Acceleration`."""
        return self._hardware.opened

    def windows(
        self, data: bytes, spec: ClipSpec, selection: Selection, limits: Limits, otherwise: Iterator[Decoded]
    ) -> Iterator[Decoded]:
        """`decode.windows` on the GPU, where it takes the video.

        Args:
            data, spec, selection, limits: as for `decode.windows`.
            otherwise: decodes the same elsewhere; is begun only where the GPU does not take the video, or gives
                it up. Its views then follow those that the GPU has given.

        Raises:
            Exception: whatever `otherwise` raises.
        """
        given = 0
        try:
            with Source(data, limits) as source:
                self._check_open(source)
            for view in windows(data, spec, selection, limits, room=self._room, acceleration=self):
                if view.missing or any(warning.key == _DAMAGE for warning in view.warnings):
                    raise NotTakenError("it is damaged")
                yield view
                given += 1
            with self._lock:
                self._taken += 1
            return
        # Whoever decodes otherwise refuses it too, in the words that users know.
        except (NotTakenError, ClipError) as error:
            logger.debug("A video is decoded on the CPU: %s", error)
        except Exception as error:
            logger.info("The GPU gives up a video of %d bytes: %s", len(data), first_line(error))
        with self._lock:
            self._left += 1
        yield from islice(otherwise, given, None)

    def converter(self, source: Source, spec: ClipSpec, crops: int) -> PlaneConverter:
        """See `video.acceleration.Acceleration`."""

        def check_frame(frame: VideoFrame) -> None:
            context = source.stream.codec_context
            # FFmpeg cuts frames on a GPU at the right and the bottom only.
            if (frame.width, frame.height) != (context.width, context.height):
                raise NotTakenError("its frames are cut at the left or the top")
            self._check_kind(context.name, check.bits_of(frame))

        return PlaneConverter(spec, crops, self._hardware.planes, self._hardware.device, check_frame)

    def describe(self) -> dict[str, Any]:
        """This part of the model's description."""
        return {
            "device": str(self._hardware.device),
            "from_pixels": LEAST_PIXELS,
            "codecs": {kind.name: self._refused.get(kind, "on") for kind in check.KINDS},
            "taken": self._taken,
            "left_to_cpu": self._left,
        }

    def _check_open(self, source: Source) -> None:
        """Raise NotTakenError for a video whose header says that it is one for the CPU."""
        context = source.stream.codec_context
        if context.width * context.height < LEAST_PIXELS:
            raise NotTakenError(f"its frames have {context.width} x {context.height} pixels")
        if not any(kind.codec == context.name and kind not in self._refused for kind in check.KINDS):
            raise NotTakenError(f"its codec is {context.name}")

    def _check_kind(self, codec: str, bits: int) -> None:
        for kind in check.KINDS:
            if (kind.codec, kind.bits) == (codec, bits) and kind not in self._refused:
                return
        raise NotTakenError(f"its codec is {codec} with {bits} bits")
