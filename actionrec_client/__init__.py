"""What users run against a server (``python -m actionrec_client``, or `ActionClient`); it never needs torch."""

from .api import ActionClient
from .errors import BadReply, Busy, NoReply, Redirected, Refused, ServerError, ServerFailed, Unreachable
from .results import ClipWarning, Prediction, Result, Segment, ServedModel, Timeline, Window
from .video import Frames

__all__ = [
    "ActionClient",
    "BadReply",
    "Busy",
    "ClipWarning",
    "Frames",
    "NoReply",
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
