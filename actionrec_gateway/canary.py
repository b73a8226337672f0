"""Two models behind one name: a share of a model's requests is answered by another one.

A file says which, and is read again as soon as it changes: ``{"motion": {"to": "next", "share": 0.1}}``.
`python -m deploy canary` writes it. A request that names a version is for that version alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine import Answer, Engine, Stream, Workers
from .observe import metrics

logger = logging.getLogger(__name__)

_PARTS = 10_000
"""Shares are counted in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may take a model's place."""

    to: str
    """Name of the other model."""
    share: float
    """Of the requests, 0 to 1."""


class Canary:
    """An engine that sends a share of a model's requests to another model.

    Args:
        engine: the engine itself.
        path: the file; where it is not there, nothing changes.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine, self._path = engine, path
        self._seen: tuple[int, int] | None = None
        self._candidates: dict[str, Candidate] = {}

    async def forward(self, path: str, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Stream:
        """See `Engine.forward`."""
        _, what, model, *version = path.split("/")
        if version or (chosen := self._chosen(model, headers.get("x-request-id", ""))) is None:
            return await self._engine.forward(path, body, headers)
        begun = time.perf_counter()
        stream = await self._engine.forward(f"/{what}/{chosen}", body, headers)
        metrics.canary(model, chosen, stream.status, time.perf_counter() - begun)
        return stream

    async def predict(
        self,
        model: str,
        video: bytes,
        options: Mapping[str, Any],
        *,
        request_id: str,
        version: str | None = None,
        client: str = "",
    ) -> Answer:
        """See `Engine.predict`."""
        chosen = None if version else self._chosen(model, request_id)
        begun = time.perf_counter()
        answer = await self._engine.predict(
            chosen or model, video, options, request_id=request_id, version=version, client=client
        )
        if chosen:
            metrics.canary(model, chosen, answer.status, time.perf_counter() - begun)
        return answer

    async def models(self) -> list[str]:
        """See `Engine.models`."""
        return await self._engine.models()

    async def describe(self, model: str, version: str | None = None) -> dict[str, Any]:
        """See `Engine.describe`."""
        return await self._engine.describe(model, version)

    async def ready(self, model: str | None = None) -> bool:
        """See `Engine.ready`."""
        return await self._engine.ready(model)

    async def waiting(self) -> Mapping[str, int]:
        """See `Engine.waiting`."""
        return await self._engine.waiting()

    async def workers(self) -> Mapping[str, Workers]:
        """See `Engine.workers`."""
        return await self._engine.workers()

    async def manage(self, method: str, path: str, query: Mapping[str, str]) -> Answer:
        """See `Engine.manage`."""
        return await self._engine.manage(method, path, query)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._engine.close()

    def _chosen(self, model: str, request_id: str) -> str | None:
        """Who answers a request, the model itself or its candidate; None: it has no candidate.

        The request's id decides, so one that is sent again goes where it went before.
        """
        self._refresh()
        candidate = self._candidates.get(model)
        if candidate is None:
            return None
        part = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") % _PARTS
        return candidate.to if part < candidate.share * _PARTS else model

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except OSError:
            self._seen, self._candidates = None, {}
            return
        seen = found.st_mtime_ns, found.st_ino
        if seen == self._seen:
            return
        self._seen = seen
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
            self._candidates = {
                str(model): Candidate(str(its["to"]), float(its["share"])) for model, its in said.items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("%s is damaged, what it said before holds: %s", self._path, error)
