"""A layer that notes each request: how long it took, what it was about, how it ended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import metrics, traces

logger = structlog.stdlib.get_logger("actionrec_gateway.requests")

_QUIET = frozenset(
    {
        *("/health", "/ready", "/metrics", "/ping", "/v2/health/live", "/v2/health/ready"),
        *("/page/session", "/page/models", "/page/teach"),
    }
)
"""Paths that machines, and open pages, ask every few seconds. They are logged where they fail."""
_LONGEST_ERROR = 4096
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""What codes look like: they become a metric's label, whoever answers."""


@dataclass(slots=True)
class Record:
    """What is noted of one request."""

    route: str = ""
    """The route's pattern: ``/jobs/{job}``; empty: none fits."""
    model: str = ""
    status: int = 0
    """HTTP status; 0: nothing was answered."""
    code: str = ""
    """Of the error, where it is one."""
    bytes_in: int = 0
    bytes_out: int = 0
    engine_id: str = ""
    """The engine's own id of the request, which its logs have."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Of the prediction."""


def record_of(scope: Scope) -> Record:
    """The record of a request, for the layers below to add to."""
    found = scope["state"].setdefault("record", Record())
    assert isinstance(found, Record)
    return found


class Observed:
    """Notes each request in the log, the metrics and the trace.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        begun = time.perf_counter()

        async def counted() -> Message:
            message = await receive()
            record.bytes_in += len(message.get("body", b""))
            return message

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                record.bytes_out += len(body)
                if record.status >= 400 and not record.code and len(body) < _LONGEST_ERROR:
                    record.code = _code(body)
            await send(message)

        with traces.request(scope) as trace:
            try:
                await self._app(scope, counted, noted)
            finally:
                seconds = time.perf_counter() - begun
                route = record.route or getattr(scope.get("route"), "path", "") or "none"
                trace.end(route, record.status, record.model)
                metrics.REQUEST.labels(route, str(record.status)).observe(seconds)
                if record.timings_ms:
                    metrics.BYTES.labels(record.model).observe(record.bytes_in)
                if record.status >= 400:
                    metrics.ERRORS.labels(route, record.code or "NONE").inc()
                if record.status >= 400 or scope["path"] not in _QUIET:
                    _log(scope, record, seconds, trace.names())


def _log(scope: Scope, record: Record, seconds: float, names: Mapping[str, str]) -> None:
    state = scope["state"]
    said: dict[str, object] = {
        "request_id": state["request_id"],
        "client": state["client"],
        "method": scope["method"],
        "path": scope["path"][:256],
        "model": record.model,
        "status": record.status,
        "code": record.code,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "seconds": round(seconds, 4),
        "engine_id": record.engine_id,
        **{f"{stage}_ms": value for stage, value in record.timings_ms.items()},
        **names,
    }
    logger.info("request", **{name: value for name, value in said.items() if value != ""})


def _code(body: bytes) -> str:
    try:
        code = str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
    return code if _CODE.fullmatch(code) else ""
