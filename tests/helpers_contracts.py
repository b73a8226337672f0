"""An engine whose answers say what it was asked, and a gateway before it, for the tests of contracts."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import requests
import uvicorn
from actionrec.errors import ClipError
from actionrec.refusals import refuse
from fastapi import FastAPI

from actionrec_gateway import jobs
from actionrec_gateway.app import create_app
from actionrec_gateway.engine import Answer, Stream, Workers
from actionrec_gateway.errors import error_body
from actionrec_gateway.settings import Settings

VIDEO = bytes(range(256)) * 4
"""No text, so that what makes text of it would show."""
TEXT = base64.b64encode(VIDEO).decode()
LABELS = ("kicking", "waving", "sleeping")
NO_VIDEO = b"not a video"
"""Bytes that the engine refuses."""
SPEC = {"num_frames": 32, "sampling_rate": 2}


@dataclass
class Asked:
    """What the engine was asked."""

    model: str
    version: str | None
    video: bytes
    options: dict[str, Any]
    request_id: str
    client: str


@dataclass
class TellingEngine:
    """Serves `kicker`. Its best label has a score that depends on the video's length alone."""

    names: tuple[str, ...] = ("kicker",)
    asked: list[Asked] = field(default_factory=list)
    predicts: bool = True
    busy: bool = False
    most_at_once: int = 0
    _now: int = 0

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
        self.asked.append(Asked(model, version, video, dict(options), request_id, client))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        try:
            reply = self._reply(model, video, options)
        except ClipError as error:
            return Answer(error.status, error_body(error, request_id), {"content-type": "application/json"})
        return Answer(200, json.dumps(reply).encode(), {"content-type": "application/json"})

    def _reply(self, model: str, video: bytes, options: Mapping[str, Any]) -> dict[str, Any]:
        if model not in self.names:
            raise refuse("MODEL_NOT_FOUND")
        if self.busy:
            raise refuse("UNAVAILABLE")
        if video == NO_VIDEO:
            raise ClipError("NOT_A_VIDEO", 415, "The bytes are no video.", "Send a video.")
        if unknown := set(options) - {"top_k", "views", "stride_seconds", "embedding"}:
            raise ClipError("UNKNOWN_OPTION", 400, f"There is no option {unknown.pop()}.", "Leave it out.")
        scores = (0.75, 0.125, len(video) / 1e6)
        best = [
            {"label": label, "class_index": index, "score": score}
            for index, (label, score) in enumerate(zip(LABELS, scores, strict=True))
        ]
        return {
            "predictions": best[: int(options.get("top_k", len(best)))],
            "clip": {"source_frames": len(video)},
            "model": {"name": model, "version": "1.0"},
            "timings_ms": {"decode": 1.0},
            "warnings": [],
        }

    async def forward(self, *_: object) -> Stream:
        raise AssertionError("no contract passes requests on unread")

    async def models(self) -> list[str]:
        return list(self.names)

    async def describe(self, model: str, version: str | None = None) -> dict[str, Any]:
        if model not in self.names or version not in (None, "1.0"):
            raise refuse("MODEL_NOT_FOUND")
        return {"version": "1.0", "labels": len(LABELS), "limits": {"top_k": 1000}, "spec": SPEC}

    async def ready(self, model: str | None = None) -> bool:
        return self.predicts and model in (None, *self.names)

    async def waiting(self) -> dict[str, int]:
        return {}

    async def workers(self) -> dict[str, Workers]:
        return {}

    async def manage(self, *_: object) -> Answer:
        raise refuse("NOT_FOUND")

    async def close(self) -> None:
        return


@dataclass(frozen=True)
class Served:
    """A gateway that listens."""

    url: str
    grpc_port: int | None
    engine: TellingEngine


@contextmanager
def serve(engine: TellingEngine, run_dir: Path, **settings: Any) -> Iterator[Served]:  # noqa: ANN401  # of `Settings`
    """A gateway before an engine, in a thread, while the context is open.

    It has no jobs: one process can have those of one gateway only.
    """
    with (
        patch.object(jobs, "life", _no_jobs),
        _running(engine, Settings(run_dir=run_dir, port=0, **settings)) as found,
    ):
        yield found


@asynccontextmanager
async def _no_jobs(_: FastAPI) -> AsyncIterator[None]:
    yield


@contextmanager
def _running(engine: TellingEngine, settings: Settings) -> Iterator[Served]:
    made = create_app(settings, engine)
    server = uvicorn.Server(uvicorn.Config(made, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the gateway did not start"
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(f"http://127.0.0.1:{port}", _grpc_port(made), engine)
    finally:
        server.should_exit = True
        thread.join()


def post(
    url: str, body: object = None, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> requests.Response:
    """POST JSON as ``curl -d`` does, which calls it a form; or bytes."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = json.dumps(body).encode() if data is None else data
    return requests.post(url, data=sent, headers={**kind, **(headers or {})}, timeout=30)


@contextmanager
def files(folder: Path) -> Iterator[tuple[str, str]]:
    """Two servers of the files in a folder; gives their addresses."""
    with ExitStack() as stack:
        urls = []
        for _ in range(2):
            handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_address[1]}")
        yield urls[0], urls[1]


def _grpc_port(app: object) -> int | None:
    """Of the FastAPI application below the layers."""
    while not isinstance(app, FastAPI):
        app = vars(app)["_app"]
    return getattr(app.state, "grpc_port", None)
