"""Questions to a running TorchServe's management API, and scaling through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import requests

from .preflight import DeployError

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Worker:
    """One process that runs a model."""

    id: str
    pid: int
    """Process id; -1 before the process runs."""
    status: str
    """``READY``, or another word of TorchServe's; while a model loads, that is ``UNLOADING``."""

    def process(self) -> psutil.Process | None:
        """The process; None where it does not run."""
        try:
            return psutil.Process(self.pid)
        except (psutil.Error, ValueError, OverflowError):
            return None

    @property
    def memory_mb(self) -> float | None:
        """Resident memory in MB, children included; None: not known. TorchServe's own figure is 0 without its
        system metrics.
        """
        process = self.process()
        try:
            family = [process, *process.children(recursive=True)] if process else []
            return float(sum(p.memory_info().rss for p in family)) / 2**20 if family else None
        except psutil.Error:
            return None


@dataclass(frozen=True)
class Model:
    """One served model at one moment."""

    name: str
    version: str
    min_workers: int
    workers: tuple[Worker, ...]
    batch: int
    """The most requests in one batch."""
    pending_requests: int
    queue: int
    """Requests that may wait; more are refused."""

    def ready(self, workers: int | None = None) -> bool:
        """Whether all its workers are READY, and there are enough of them.

        Args:
            workers: the exact number; None: at least one, and at least the server's setting.
        """
        if any(worker.status != "READY" for worker in self.workers):
            return False
        count = len(self.workers)
        return count >= max(1, self.min_workers) if workers is None else count == workers


def get_models(
    management_url: str, names: Sequence[str], timeout_seconds: float = _TIMEOUT_SECONDS
) -> list[Model]:
    """The models of these names that the server knows. A starting server learns of them one by one.

    Args:
        management_url: address of the management API.
        names: names of models.
        timeout_seconds: time for each model.

    Raises:
        requests.RequestException: the server does not answer, or not in TorchServe's format.
    """
    found = []
    for name in names:
        reply = requests.get(f"{management_url}/models/{name}", timeout=timeout_seconds)
        if reply.ok:
            try:
                found += [_model(entry) for entry in reply.json()]
            except (KeyError, TypeError, ValueError) as error:
                raise requests.exceptions.InvalidJSONError(f"an odd reply: {reply.text[:200]!r}") from error
    return found


def set_workers(management_url: str, name: str, workers: int, timeout_seconds: float) -> None:
    """Set a model's number of workers; returns when the server has them, or has given up.

    Raises:
        DeployError: the server refuses or does not answer.
    """
    try:
        reply = requests.put(
            f"{management_url}/models/{name}",
            params={"min_worker": str(workers), "max_worker": str(workers), "synchronous": "true"},
            timeout=timeout_seconds,
        )
    except requests.RequestException as error:
        raise DeployError(f"the server does not answer the call to scale {name}: {error}") from error
    if not reply.ok:
        raise DeployError(f"the server did not scale {name} to {workers}: {_message(reply)}")


def _message(reply: requests.Response) -> str:
    try:
        return str(reply.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status_code}"


def _model(entry: dict[str, Any]) -> Model:
    return Model(
        name=entry["modelName"],
        version=entry["modelVersion"],
        min_workers=entry["minWorkers"],
        workers=tuple(Worker(id=w["id"], pid=w["pid"], status=w["status"]) for w in entry["workers"]),
        batch=entry["batchSize"],
        pending_requests=entry["jobQueueStatus"]["pendingRequests"],
        queue=entry["jobQueueStatus"]["pendingRequests"] + entry["jobQueueStatus"]["remainingCapacity"],
    )
