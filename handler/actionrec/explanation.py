"""Why a label has its score: what each place and time adds to its logit. Needs numpy alone."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from .head import Floats
from .sampling import Box


@dataclass(frozen=True, slots=True)
class Shares:
    """What one pathway adds to a logit."""

    seconds: tuple[float, ...]
    """The middle of each step in time, in seconds from the video's first frame."""
    values: Floats
    """float32 [t, h, w]: steps in time, rows and columns of the crop."""

    def to_dict(self) -> dict[str, Any]:
        """As replies have it: the values as base64 of little-endian float32."""
        return {
            "shape": list(self.values.shape),
            "seconds": [round(second, 3) for second in self.seconds],
            "shares": to_base64(self.values),
        }


@dataclass(frozen=True, slots=True)
class ExplainedView:
    """One view's part of an explanation."""

    window: int
    """Number of the window, from 0."""
    crop: int
    """Number of the crop, from 0."""
    start_seconds: float
    end_seconds: float
    box: Box
    """Where the crop lies in the video as shown."""
    logit: float
    """Of the label: all shares of the view and the bias add up to it."""
    pathways: tuple[Shares, ...]

    def to_dict(self) -> dict[str, Any]:
        """An entry of a reply's ``explanation.views``."""
        return {
            "window": self.window,
            "crop": self.crop,
            "start_seconds": round(self.start_seconds, 3),
            "end_seconds": round(self.end_seconds, 3),
            "box": [round(edge, 2) for edge in self.box],
            "logit": self.logit,
            "pathways": [pathway.to_dict() for pathway in self.pathways],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a label has its score."""

    class_index: int
    """Number of the label."""
    bias: float
    """What the label has before anything is seen."""
    views: tuple[ExplainedView, ...]

    def to_dict(self, label: str) -> dict[str, Any]:
        """A reply's ``explanation``."""
        return {
            "label": label,
            "class_index": self.class_index,
            "bias": self.bias,
            "views": [view.to_dict() for view in self.views],
        }


def to_base64(values: Floats) -> str:
    """Numbers as base64 of little-endian float32, in C order."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")
