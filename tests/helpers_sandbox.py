"""What the tests of the sandbox ask of it, and on which clip."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Sandbox
from actionrec.spec import ClipSpec

from testing.media import encode, textured_frames

SPEC = ClipSpec(short_side=64, crop=64)
LIMITS = Limits(decode_seconds=60, request_seconds=60)
MANY_WINDOWS = replace(LIMITS, windows=1000)
FRAMES = textured_frames(160, 120, 70)
CLIP = encode(FRAMES)
TROUBLE = "tests.troubled_child"
"""A child that does what the first bytes of a video tell it, which the real one does not."""


def ask(sandbox: Sandbox, data: bytes, limits: Limits = LIMITS) -> np.ndarray:
    """The frames of the first window."""
    return next(sandbox.windows(data, SPEC, FIRST_WINDOW, limits)).frames


def code_of(sandbox: Sandbox, data: bytes, limits: Limits = LIMITS) -> str:
    """The code of the error that a video gets."""
    with pytest.raises(ClipError) as caught:
        ask(sandbox, data, limits)
    assert caught.value.hint
    return caught.value.code


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
