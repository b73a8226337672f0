"""The frames that a model sees of a clip: decoded and sampled by the code that serves, in its sandbox."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection
from actionrec.sandbox import Caller, Sandbox
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded

from ..jpeg import jpeg

_COLUMNS = 8
_EDGE = 128
"""Pixels of a frame on the sheet: it is for people."""
_AT_ONCE = 4
"""Clips that are in memory."""


class Frames:
    """Decodes for the page, one clip at a time; `close` it. Child processes are started with the first one."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(_AT_ONCE)
        """Held while a clip is received and decoded: each is in memory."""
        self._lock = asyncio.Lock()
        self._spec: ClipSpec | None = None
        self._sandbox: Sandbox | None = None

    async def sheet(
        self, data: bytes, described: Mapping[str, Any], selection: Selection, client: str
    ) -> dict[str, Any]:
        """The first view's frames on one picture.

        Args:
            data: the video.
            described: what the archive says of itself.
            selection: which part of it.
            client: who asks.

        Returns:
            ``seconds`` of each frame; ``columns`` and ``edge`` (pixels) of the grid; the ``jpeg``, base64.

        Raises:
            ClipError: the video cannot be decoded.
        """
        spec = ClipSpec.from_description(described["spec"])
        async with self._lock:
            return await asyncio.to_thread(self._sheet, data, spec, selection, client)

    def _sheet(self, data: bytes, spec: ClipSpec, selection: Selection, client: str) -> dict[str, Any]:
        if self._sandbox is None or spec != self._spec:
            self.close()
            self._sandbox, self._spec = Sandbox(spec, DEFAULT_LIMITS, 1), spec
        views = self._sandbox.windows(data, spec, selection, DEFAULT_LIMITS, Caller(client))
        (view,) = views
        return {
            "seconds": [round(seconds, 3) for seconds in view.frame_seconds],
            "columns": _COLUMNS,
            "edge": _EDGE,
            "jpeg": base64.b64encode(jpeg(_sheet(view))).decode("ascii"),
        }

    def close(self) -> None:
        """End the child processes."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


def _sheet(view: Decoded) -> npt.NDArray[np.uint8]:
    frames = view.rounded()
    rows = max(1, math.ceil(len(frames) / _COLUMNS))
    sheet: npt.NDArray[np.uint8] = np.zeros((rows * _EDGE, _COLUMNS * _EDGE, 3), np.uint8)
    for number, frame in enumerate(frames):
        top, left = (number // _COLUMNS) * _EDGE, (number % _COLUMNS) * _EDGE
        small = cv2.resize(frame, (_EDGE, _EDGE), interpolation=cv2.INTER_AREA)
        sheet[top : top + _EDGE, left : left + _EDGE] = small
    return sheet
