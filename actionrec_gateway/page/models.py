"""What is served, for whoever may ask: less than the management tells administrators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from actionrec.errors import ClipError
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


async def models(engine: Engine) -> list[ModelView]:
    """All versions of all models, by name.

    Raises:
        ClipError: 503, the engine does not answer.
    """
    names = await engine.models()
    found = await asyncio.gather(*(_versions(engine, name) for name in names))
    return [view for views in found for view in views]


async def _versions(engine: Engine, name: str) -> list[ModelView]:
    try:
        answer = await engine.manage("GET", f"/models/{name}/all", {})
        versions = json.loads(answer.body) if answer.status == 200 else []
        standard = await engine.describe(name)
        described = [await engine.describe(name, str(one["modelVersion"])) for one in versions]
    except ClipError as error:
        if error.status == 404:  # it has just been removed
            return []
        raise
    default = str(standard.get("version"))
    return [_view(one, about, default) for one, about in zip(versions, described, strict=True)]


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
