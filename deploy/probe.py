"""Whether a model predicts: asked with a real clip, since READY only says that it was loaded once."""

from __future__ import annotations

import re
from pathlib import Path

import requests

from .server import State

_CLIP = Path(__file__).parent / "probe.mp4"  # 64 frames of 64x64 pixels
_BUSY = "ServiceUnavailableException"  # TorchServe's word for a full queue


def predicts(state: State, model: str, deadline_seconds: float) -> str | None:
    """Why a model does not predict.

    Args:
        state: of the server.
        model: its name.
        deadline_seconds: for the answer. One that is late is no fault while others are answered.

    Returns:
        None where it does, refuses the clip with an error of its own, or is busy with other requests.
    """
    before = _inference_time(state, model)
    try:
        reply = requests.put(state.predict_url(model), data=_CLIP.read_bytes(), timeout=deadline_seconds)
    except requests.Timeout:
        after = _inference_time(state, model)
        return None if after is not None and after != before else f"no answer within {deadline_seconds:g} s"
    except requests.RequestException as error:
        return f"no answer ({error})"
    if reply.status_code < 500 or (reply.status_code == 503 and _BUSY in reply.text):
        return None
    return f"HTTP {reply.status_code}: {reply.text[:200]}"


def _inference_time(state: State, model: str) -> float | None:
    """Microseconds that all predictions of a model have taken so far: it grows with each that is answered."""
    try:
        text = requests.get(state.metrics_url, timeout=10).text
    except requests.RequestException:
        return None
    label = re.escape(f'model_name="{model}"')
    found = re.findall(rf"^ts_inference_latency_microseconds{{[^}}]*{label}[^}}]*}} (\S+)", text, re.M)
    return sum(map(float, found))
