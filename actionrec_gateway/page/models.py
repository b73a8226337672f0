"""What is served, for whoever may ask: less than the management tells administrators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from actionrec.errors import ClipError
from actionrec.refusals import refuse
from pydantic import BaseModel

from ..engine import Engine


class Worker(BaseModel):
    """One worker of a model."""

    status: str
    device: str


class ModelView(BaseModel):
    """One version of a model."""

    name: str
    version: str
    default: bool
    labels: int
    window_seconds: float
    frames: int
    runtime: str
    precision: str
    batch: int
    waiting: int
    workers: list[Worker]


class Models:
    """Tells what is served.

    Args:
        engine: that serves it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._described: dict[tuple[str, ...], dict[str, Any]] = {}

    async def all(self) -> list[ModelView]:
        """All versions of all models, by name.

        Raises:
            ClipError: 503, the engine does not answer.
        """
        names = await self._engine.models()
        found = await asyncio.gather(*(self._versions(name) for name in names))
        return [view for views in found for view in views]

    async def _versions(self, name: str) -> list[ModelView]:
        try:
            (standard,) = await self._asked(f"/models/{name}")
            versions = await self._asked(f"/models/{name}/all")
            described = [await self._about(one) for one in versions]
        except ClipError as error:
            if error.status == 404:  # it has just been removed
                return []
            raise
        default = str(standard["modelVersion"])
        return [_view(one, about, default) for one, about in zip(versions, described, strict=True)]

    async def _asked(self, path: str) -> list[dict[str, Any]]:
        answer = await self._engine.manage("GET", path, {})
        if answer.status != 200:
            raise refuse("MODEL_NOT_FOUND" if answer.status == 404 else "UNAVAILABLE")
        return list(json.loads(answer.body))

    async def _about(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """What an archive says of itself. A worker answers that: it is asked once in its life."""
        name, version = str(one["modelName"]), str(one["modelVersion"])
        workers = one.get("workers") or []
        if not any(worker.get("status") == "READY" for worker in workers):
            return {}
        key = (name, version, *sorted(str(worker.get("startTime")) for worker in workers))
        if key not in self._described:
            found = await self._engine.describe(name, version)
            self._described = {old: about for old, about in self._described.items() if old[:2] != key[:2]}
            self._described[key] = found
        return self._described[key]


def _view(one: Mapping[str, Any], described: Mapping[str, Any], default: str) -> ModelView:
    spec, serving = described.get("spec") or {}, described.get("serving") or {}
    workers = [
        Worker(status=str(worker.get("status")), device=_device(one, worker))
        for worker in one.get("workers") or []
    ]
    return ModelView(
        name=str(one["modelName"]),
        version=str(one["modelVersion"]),
        default=str(one["modelVersion"]) == default,
        labels=int(described.get("labels") or 0),
        window_seconds=float(spec.get("window_seconds") or 0.0),
        frames=int(spec.get("num_frames") or 0),
        runtime=str(serving.get("runtime") or ""),
        precision=str(serving.get("precision") or ""),
        batch=int(one.get("batchSize") or 1),
        waiting=int((one.get("jobQueueStatus") or {}).get("pendingRequests") or 0),
        workers=workers,
    )


def _device(one: Mapping[str, Any], worker: Mapping[str, Any]) -> str:
    if not worker.get("gpu"):
        return str(one.get("deviceType") or "cpu")
    return "gpu"
