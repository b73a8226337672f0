"""Whether models predict: each is asked with a clip of known content, unless it has just answered somebody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from .engine import Answer

_PROBE_SECONDS = 30.0
"""Longest wait for the answer."""
_REMEMBERED_SECONDS = 5.0
"""How long a right answer counts as a sign that the model predicts..."""
_FORGIVEN_SECONDS = 1.0
"""... and a wrong one as a sign that it does not."""
_CLIP = Path(__file__).parent / "probe.mp4"
"""64 frames of 96x96 pixels: a bright square crosses a grey field from left to right."""
_SHOWN = {"motion": "moving right"}
"""Model -> what it has to call this clip. Of other models any prediction is right."""


class Predict(Protocol):
    """`Engine.predict`."""

    def __call__(
        self, model: str, video: bytes, options: dict[str, object], *, request_id: str
    ) -> Awaitable[Answer]:
        """Classify one video."""


class Watch:
    """What is known of each model's last answers.

    Args:
        predict: asks the engine.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._clip = _CLIP.read_bytes()
        self._locks: dict[str, asyncio.Lock] = {}
        self._right: dict[str, float] = {}
        self._wrong: dict[str, float] = {}

    def answered(self, model: str) -> None:
        """A model has predicted for somebody."""
        self._right[model] = time.monotonic()

    async def predicts(self, model: str) -> bool:
        """Whether a model predicts. Of many that ask at once, one sends the clip."""
        async with self._locks.setdefault(model, asyncio.Lock()):
            now = time.monotonic()
            if now - self._right.get(model, -_PROBE_SECONDS) < _REMEMBERED_SECONDS:
                return True
            if now - self._wrong.get(model, -_PROBE_SECONDS) < _FORGIVEN_SECONDS:
                return False
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    answer = await self._predict(model, self._clip, {}, request_id="probe")
                right = answer.status == 200 and _is_right(model, answer.body)
            except TimeoutError:
                right = False
            if not right:
                self._right.pop(model, None)
                self._wrong[model] = time.monotonic()
            return right


def _is_right(model: str, body: bytes) -> bool:
    """Whether a reply names a label, and of the bundled model the right one."""
    try:
        best = json.loads(body)["predictions"][0]
        label, score = str(best["label"]), float(best["score"])
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    return 0.0 <= score <= 1.0 and label == _SHOWN.get(model, label)
