"""The gateway's metrics, for Prometheus. Times are in seconds; no label has the name of a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from ..engine import Workers
from .trees import Tree

REGISTRY = CollectorRegistry()
ProcessCollector("actionrec_gateway", registry=REGISTRY)

REQUEST = Histogram(
    "actionrec_request_seconds",
    "Time from a request's first byte to its reply's last",
    ("route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    registry=REGISTRY,
)
BYTES = Histogram(
    "actionrec_request_bytes",
    "Bytes of a request that was answered with a prediction",
    ("model",),
    buckets=(1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8),
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
ENGINE_UP = Gauge("actionrec_engine_up", "1: the engine answers; 0: it does not", registry=REGISTRY)
WAITING = Gauge(
    "actionrec_requests_waiting",
    "Requests in the engine's queue that no worker has taken; for an autoscaler",
    ("model",),
    registry=REGISTRY,
)
JOBS = Gauge("actionrec_jobs", "Jobs that are kept, by their state", ("state",), registry=REGISTRY)
WORKERS_READY = Gauge("actionrec_workers_ready", "Workers that take requests", ("model",), registry=REGISTRY)
WORKERS_WANTED = Gauge(
    "actionrec_workers_wanted", "Workers that there should be", ("model",), registry=REGISTRY
)
WORKER_STARTED = Gauge(
    "actionrec_worker_started_seconds",
    "When a worker was started, since 1970; a change is a restart",
    ("model", "worker"),
    registry=REGISTRY,
)
WORKER_MEMORY = Gauge(
    "actionrec_worker_memory_bytes",
    "Resident memory of a worker and its decoding children",
    ("model", "worker"),
    registry=REGISTRY,
)
WORKER_CHILDREN = Gauge(
    "actionrec_worker_children",
    "Decoding children of a worker that live",
    ("model", "worker"),
    registry=REGISTRY,
)
CANARY = Histogram(
    "actionrec_canary_seconds",
    "Time to the engine's answer, of requests to a model that has a candidate, by who answered",
    ("model", "served", "status"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=REGISTRY,
)
_OF_WORKERS = (WORKERS_READY, WORKERS_WANTED, WORKER_STARTED, WORKER_MEMORY, WORKER_CHILDREN)

Refresh = Callable[[], Awaitable[None]]
"""Sets gauges to what holds now. It may not raise."""


def stages(timings_ms: Mapping[str, float]) -> None:
    """Count the times of one prediction.

    Args:
        timings_ms: step -> milliseconds, the reply's ``timings_ms``.
    """
    for stage, milliseconds in timings_ms.items():
        STAGE.labels(stage).observe(milliseconds / 1000.0)


def canary(model: str, served: str, status: int, seconds: float) -> None:
    """Count a request to a model that has a candidate.

    Args:
        model: that was asked for.
        served: that answered.
        status: of the answer.
        seconds: until it.
    """
    CANARY.labels(model, served, str(status)).observe(seconds)


def set_waiting(waiting: Mapping[str, int]) -> None:
    """Set the gauge to what the engine says; models that it does not name are forgotten.

    Args:
        waiting: model -> requests.
    """
    WAITING.clear()
    for model, count in waiting.items():
        WAITING.labels(model).set(count)


def set_workers(workers: Mapping[str, Workers], trees: Mapping[int, Tree]) -> None:
    """Set the gauges of workers; those that are not named are forgotten.

    Args:
        workers: of each model.
        trees: process id of a worker -> what it and its children use, where that can be seen.
    """
    for gauge in _OF_WORKERS:
        gauge.clear()
    for model, its in workers.items():
        WORKERS_WANTED.labels(model).set(its.wanted)
        WORKERS_READY.labels(model).set(sum(worker.ready for worker in its.found))
        for worker in its.found:
            if worker.started_seconds is not None:
                WORKER_STARTED.labels(model, worker.name).set(worker.started_seconds)
            if tree := trees.get(worker.pid or 0):
                WORKER_MEMORY.labels(model, worker.name).set(tree.resident_bytes)
                WORKER_CHILDREN.labels(model, worker.name).set(tree.children)


def exposed(request: Request) -> Response:
    """All metrics in the format that the request asks for."""
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=None, headers={"content-type": kind})
