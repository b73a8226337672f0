"""What users run against a server (``python -m actionrec_client``, or `ActionClient`); it never needs torch."""

from .api import ActionClient
from .description import Description
from .errors import BadReply, Busy, NoReply, Redirected, Refused, ServerError, ServerFailed, Unreachable
from .options import Options
from .results import ClipWarning, Prediction, Result, Segment, ServedModel, Timeline, Window
from .video import Frames

__all__ = [
    "ActionClient",
    "BadReply",
    "Busy",
    "ClipWarning",
    "Description",
    "Frames",
    "NoReply",
    "Options",
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
]
