"""The gateway's metrics, for Prometheus. Times are in seconds; no label has the name of a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

REGISTRY = CollectorRegistry()

REQUEST = Histogram(
    "actionrec_request_seconds",
    "Time from a request's first byte to its reply's last",
    ("route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    registry=REGISTRY,
)
STAGE = Histogram(
    "actionrec_stage_seconds",
    "Time of one step of a prediction, as its reply says",
    ("stage",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=REGISTRY,
)
ERRORS = Counter(
    "actionrec_errors",
    "Requests that were answered with an error, by its code",
    ("route", "code"),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "actionrec_requests_in_flight", "Requests that the engine has and has not answered", registry=REGISTRY
)
WAITING = Gauge(
    "actionrec_requests_waiting",
    "Requests in the engine's queue that no worker has taken; for an autoscaler",
    ("model",),
    registry=REGISTRY,
)
JOBS = Gauge("actionrec_jobs", "Jobs that are kept, by their state", ("state",), registry=REGISTRY)

Refresh = Callable[[], Awaitable[None]]
"""Sets gauges to what holds now. It may not raise."""


def stages(timings_ms: Mapping[str, float]) -> None:
    """Count the times of one prediction.

    Args:
        timings_ms: step -> milliseconds, the reply's ``timings_ms``.
    """
    for stage, milliseconds in timings_ms.items():
        STAGE.labels(stage).observe(milliseconds / 1000.0)


def set_waiting(waiting: Mapping[str, int]) -> None:
    """Set the gauge to what the engine says; models that it does not name are forgotten.

    Args:
        waiting: model -> requests.
    """
    WAITING.clear()
    for model, count in waiting.items():
        WAITING.labels(model).set(count)


def exposed(request: Request) -> Response:
    """All metrics in the format that the request asks for."""
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=None, headers={"content-type": kind})
