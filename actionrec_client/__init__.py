"""What users run against a server (``python -m actionrec_client``, or `ActionClient`); it never needs torch."""

from .api import ActionClient
from .description import Description
from .endpoint import Endpoint
from .errors import BadReply, Busy, NoReply, Redirected, Refused, ServerError, ServerFailed, Unreachable
from .explanation import Box, ExplainedView, Explanation, PathwayShares, Peak
from .options import Options
from .results import (
    ClipWarning,
    Prediction,
    Result,
    Segment,
    ServedModel,
    Timeline,
    Window,
    WindowEmbeddings,
)
from .video import Frames

__all__ = [
    "ActionClient",
    "BadReply",
    "Box",
    "Busy",
    "ClipWarning",
    "Description",
    "Endpoint",
    "ExplainedView",
    "Explanation",
    "Frames",
    "NoReply",
    "Options",
    "PathwayShares",
    "Peak",
    "Prediction",
    "Redirected",
    "Refused",
    "Result",
    "Segment",
    "ServedModel",
    "ServerError",
    "ServerFailed",
    "Timeline",
    "Unreachable",
    "Window",
    "WindowEmbeddings",
]
