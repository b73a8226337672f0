"""Whether models predict: each is asked with a clip of known content, unless it has just answered somebody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from .engine import Answer

_ASKER_SECONDS = 2.0
"""How long whoever asks is kept waiting for an answer that is on its way."""
_PROBE_SECONDS = 30.0
"""Longest wait for the answer itself."""
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
        self._probes: dict[str, asyncio.Task[bool]] = {}
        self._right: dict[str, float] = {}
        """Model -> when it last gave anybody a right answer, in seconds of `time.monotonic`..."""
        self._wrong: dict[str, float] = {}
        """... and when it last failed the probe."""

    def answered(self, model: str) -> None:
        """A model has predicted for somebody."""
        self._right[model] = time.monotonic()

    async def predicts(self, model: str) -> bool:
        """Whether a model predicts.

        One that is busy takes its time; until there is an answer, what was found last holds. Of many that ask
        at once, one sends the clip.
        """
        now = time.monotonic()
        right, wrong = self._right.get(model, -_PROBE_SECONDS), self._wrong.get(model, -_PROBE_SECONDS)
        if now - right < _REMEMBERED_SECONDS:
            return True
        if now - wrong < _FORGIVEN_SECONDS:
            return False
        probe = self._probes.get(model)
        if probe is None or probe.done():
            probe = self._probes[model] = asyncio.create_task(self._probe(model))
        done, _ = await asyncio.wait({probe}, timeout=_ASKER_SECONDS)
        return probe.result() if done else model in self._right and right > wrong

    async def close(self) -> None:
        """Ask nobody any more."""
        for probe in self._probes.values():
            probe.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)

    async def _probe(self, model: str) -> bool:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                answer = await self._predict(model, self._clip, {}, request_id="probe")
            right = answer.status == 200 and _is_right(model, answer.body)
        except TimeoutError:
            right = self._right.get(model, begun) > begun  # it is busy, and others have their answers
        if not right:
            self._right.pop(model, None)  # an answer with the wrong label was counted, too
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
