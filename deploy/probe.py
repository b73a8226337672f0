"""Whether a model predicts: asked with a real clip, since READY only says that it was loaded once.

The clip is a good one, so any error for it is a fault of the service: one of 4xx says that decoding is broken.
Only a full queue is none by itself. While the probe waits for its answer, what others get tells a busy model
from a broken one; but only right answers do, since an outage may consist of quick errors.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import requests

from .state import State

_CLIP = Path(__file__).parent / "probe.mp4"
"""64 frames of 96x96 pixels: a bright square that crosses a grey field from left to right."""
_SHOWN = "moving right"
_BUNDLED_MODEL = "motion"
"""Its labels are known; of other models any well-formed prediction is right."""
_BUSY = ("ServiceUnavailableException", "STILL_WORKING")
"""TorchServe's word for a full queue, and the code for a clip whose answer is still being made."""


class Answer(Enum):
    """What came of a probe."""

    RIGHT = "right"
    BUSY = "busy"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What came of a probe, and why where that is not right."""

    answer: Answer
    reason: str = ""


class Probe(threading.Thread):
    """A prediction of the probe clip that is on its way. It does not keep the interpreter alive.

    Args:
        state: of the server.
        model: its name.
        deadline_seconds: for the answer.
    """

    def __init__(self, state: State, model: str, deadline_seconds: float) -> None:
        super().__init__(name=f"probe of {model}", daemon=True)
        self._state, self._model, self._deadline = state, model, deadline_seconds
        self.began = time.monotonic()
        self.finding: Finding | None = None
        """None until it has come."""
        self.seconds = 0.0
        """That it took."""
        self.start()

    def run(self) -> None:
        """The request. Whatever happens, there is a finding."""
        finding = Finding(Answer.WRONG, "the probe itself failed")
        try:
            finding = predicts(self._state, self._model, self._deadline)
        except Exception as error:
            finding = Finding(Answer.WRONG, f"the probe itself failed: {error!r}")
        finally:
            self.seconds = time.monotonic() - self.began
            self.finding = finding


@dataclass(frozen=True)
class Progress:
    """What a model has done for anyone; compare it with an earlier one.

    TorchServe counts answers, errors among them. Only with right ones the handler gives the times that they
    took, of which TorchServe shows the last: a change of these means a right answer.
    """

    asked: float
    """Requests that came."""
    answered: float
    """Microseconds that all answers have taken, errors among them: it grows with each."""
    last_times: tuple[str, ...]
    """Milliseconds of decoding, transforming and inference of the last right answer."""


def predicts(state: State, model: str, deadline_seconds: float) -> Finding:
    """Send the probe clip and judge the answer.

    Args:
        state: of the server.
        model: its name.
        deadline_seconds: for the answer.
    """
    try:
        reply = requests.put(state.predict_url(model), data=_CLIP.read_bytes(), timeout=deadline_seconds)
    except requests.Timeout:
        return Finding(Answer.WRONG, f"no answer within {deadline_seconds:g} s")
    except requests.RequestException as error:
        return Finding(Answer.WRONG, f"no answer ({error})")
    if reply.ok:
        problem = _problem(reply.content)
        return Finding(Answer.WRONG, problem) if problem else Finding(Answer.RIGHT)
    busy = reply.status_code == requests.codes.unavailable and any(word in reply.text for word in _BUSY)
    reason = f"HTTP {reply.status_code}: {' '.join(reply.text[:200].split())}"
    return Finding(Answer.BUSY if busy else Answer.WRONG, reason)


def progress(state: State, model: str, timeout_seconds: float) -> Progress | None:
    """What the metrics say now; None where they cannot be had."""
    try:
        text = requests.get(state.metrics_url, timeout=timeout_seconds).text
    except requests.RequestException:
        return None
    name = re.escape(model)

    def total(metric: str) -> float:
        found = re.findall(rf'^{metric}{{[^}}]*model_name="{name}"[^}}]*}} (\S+)', text, re.M)
        return sum(map(_number, found))

    times = re.findall(
        rf'^(?:Decode|Transform|Inference)Time{{[^}}]*ModelName="{name}"[^}}]*}} \S+', text, re.M
    )
    asked, answered = total("ts_inference_requests_total"), total("ts_inference_latency_microseconds")
    return Progress(asked, answered, tuple(sorted(times)))


def _problem(body: bytes) -> str:
    """What is wrong with a reply of 200; empty where it is right."""
    try:
        reply = json.loads(body)
        predictions = [(entry["label"], entry["score"]) for entry in reply["predictions"]]
        name = dict(reply.get("model") or {}).get("name")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"an answer that is no prediction ({type(error).__name__}): {body[:100]!r}"
    if not predictions or not all(isinstance(label, str) and _is_score(score) for label, score in predictions):
        return f"predictions without labels or with impossible scores: {predictions[:3]}"
    if name == _BUNDLED_MODEL and predictions[0][0] != _SHOWN:
        return f"a clip that shows {_SHOWN!r} was called {predictions[0][0]!r}"
    return ""


def _is_score(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0.0 <= value <= 1.0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
