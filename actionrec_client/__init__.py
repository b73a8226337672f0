"""What users run against a server (``python -m actionrec_client``, or `ActionClient`); it never needs torch."""

from typing import TYPE_CHECKING, Any

from .api import ActionClient
from .description import Description
from .endpoint import Endpoint
from .errors import BadReply, Busy, NoReply, Redirected, Refused, ServerError, ServerFailed, Unreachable
from .explanation import Box, ExplainedView, Explanation, PathwayShares, Peak
from .job_data import JobOptions, JobState
from .jobs import Job
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

if TYPE_CHECKING:
    from .aio import AsyncActionClient, AsyncJob

__all__ = [
    "ActionClient",
    "AsyncActionClient",
    "AsyncJob",
    "BadReply",
    "Box",
    "Busy",
    "ClipWarning",
    "Description",
    "Endpoint",
    "ExplainedView",
    "Explanation",
    "Frames",
    "Job",
    "JobOptions",
    "JobState",
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


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Httpx is loaded where it is asked for: it takes a tenth of a second."""
    if name in ("AsyncActionClient", "AsyncJob"):
        from . import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
