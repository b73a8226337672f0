"""Is a server ready? Its workers say so, and a tiny clip gets its label."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from .api import ActionClient
from .errors import NoReply, ServerError, Unreachable
from .video import Frames

LABEL = "moving right"
"""What the bundled model has to say of `tiny_clip`. Other models may not have such a label."""
_BUNDLED_MODEL = "motion"
_EDGE, _FRAMES, _FPS = 96, 64, 30


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a probe found."""

    ready: bool
    message: str
    seconds: float
    """How long the probe took."""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def tiny_clip() -> Frames:
    """A bright square that crosses a grey field from left to right: uint8 [64, 96, 96, 3]."""
    rng = np.random.default_rng(0)
    field = cv2.resize(rng.integers(90, 130, (8, 8, 3), dtype=np.uint8), (_EDGE, _EDGE))
    pixels = np.repeat(np.asarray(field, dtype=np.uint8)[None], _FRAMES, axis=0)
    for index in range(_FRAMES):
        x = 8 + round(index * (_EDGE - 40) / (_FRAMES - 1))
        pixels[index, 36:60, x : x + 24] = (230, 200, 40)
    return Frames(pixels, _FPS)


def probe(client: ActionClient, timeout_seconds: float, *, named: bool) -> Readiness:
    """Ask how the workers are, and send the clip.

    Args:
        client: of the server.
        timeout_seconds: for all of it.
        named: the model's name is known. Then the clip alone decides where the management address cannot be
            reached.
    """
    began = time.monotonic()

    def state(ready: bool, message: str) -> Readiness:
        return Readiness(ready, message, round(time.monotonic() - began, 3))

    try:
        workers = "its workers are READY"
        try:
            if not client.ready():
                return state(False, f"{client.model} has no READY worker, or not all that it should have")
        except ServerError as error:
            if not named or not (isinstance(error, Unreachable | NoReply) or error.code == "NO_MANAGEMENT"):
                return state(False, str(error))
            workers = "its workers were not asked"
        left = timeout_seconds - (time.monotonic() - began)
        if left <= 0:
            return state(False, f"the time of {timeout_seconds:g} s was up before the clip was sent")
        answer = client.classify(tiny_clip(), timeout=left)
    except ServerError as error:
        return state(False, str(error))
    if answer.model.name == _BUNDLED_MODEL and answer.label != LABEL:
        return state(False, f"a clip that shows {LABEL!r} was called {answer.label!r}")
    return state(True, f"{client.model}, {workers}, a clip was called {answer.label!r}")
