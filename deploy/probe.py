"""Whether a model predicts: it is asked with a real clip, since READY only means that it was loaded once.

The clip is a good one, so any error is the service's fault: even a 4xx means that decoding is broken. Only a
full queue is no fault by itself. While the probe waits for its answer, the answers to others tell a busy model
from a broken one; only right answers count, since an outage may consist of quick errors.
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

_CLIP = Path(__file__).parent.parent / "actionrec_gateway" / "probe.mp4"
"""64 frames of 96x96 pixels: a bright square crosses a grey field from left to right."""
_SHOWN = "moving right"
_BUNDLED_MODEL = "motion"
"""A model whose labels are known; of other models any well-formed prediction is right."""
_BUSY = ("ServiceUnavailableException", "STILL_WORKING")
"""TorchServe's exception for a full queue, and the code of a request whose answer is still being made."""


class Answer(Enum):
    """The result of a probe."""

    RIGHT = "right"
    BUSY = "busy"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """The result of a probe, and the reason where it is not right."""

    answer: Answer
    reason: str = ""


class Probe(threading.Thread):
    """A thread that asks for a prediction of the probe clip. It does not keep the interpreter alive.

    Args:
        state: the server's state.
        model: the model's name.
        deadline_seconds: time for the answer.
    """

    def __init__(self, state: State, model: str, deadline_seconds: float) -> None:
        super().__init__(name=f"probe of {model}", daemon=True)
        self._state, self._model, self._deadline = state, model, deadline_seconds
        self.began = time.monotonic()
        self.finding: Finding | None = None
        """The result; None until there is one."""
        self.seconds = 0.0
        """Seconds that the probe took."""
        self.start()

    def run(self) -> None:
        """Send the request. Whatever happens, there is a finding at the end."""
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
    """What a model has done for anyone so far; compare it with an earlier one.

    TorchServe counts all answers, including errors. The handler reports its times with right answers only, and
    TorchServe shows the last ones: so a change of the times means a right answer.
    """

    asked: float
    """Requests that have arrived."""
    answered: float
    """Microseconds that all answers have taken, including errors: it grows with each answer."""
    last_times: tuple[str, ...]
    """Milliseconds of decoding, transforming and inference of the last right answer."""


def predicts(state: State, model: str, deadline_seconds: float) -> Finding:
    """Send the probe clip and judge the answer.

    Args:
        state: the server's state.
        model: the model's name.
        deadline_seconds: time for the answer.
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
    """What the metrics say now; None where they cannot be read."""
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
    """What is wrong with a reply of status 200; empty where it is right."""
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
