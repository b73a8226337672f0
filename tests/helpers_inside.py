"""A whole gateway in the process of the test, before an engine with one answer, whose parts can be broken."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from actionrec.refusals import refuse
from actionrec.spec import ClipSpec

from actionrec_gateway.app import create_app
from actionrec_gateway.engine import Answer
from actionrec_gateway.jobs import files
from actionrec_gateway.settings import Settings
from tests.helpers_jobs import REPLY

DESCRIBED: dict[str, Any] = {"spec": ClipSpec(short_side=96, crop=96).describe(), "labels": 8}


def reply_to(options: Mapping[str, Any]) -> dict[str, Any]:
    """The one answer; with a stride, for each window from start to end."""
    stride = options.get("stride_seconds")
    if stride is None:
        return REPLY
    start = float(options.get("start_seconds") or 0.0)
    window = float(ClipSpec(short_side=96, crop=96).window_seconds)
    end = float(options.get("end_seconds") or start + window)
    count = max(1, int((end - start - window) / float(stride) + 1e-6) + 1)
    windows = [
        {
            "start_seconds": start + number * float(stride),
            "end_seconds": start + number * float(stride) + window,
            "predictions": REPLY["predictions"],
            "warnings": [],
        }
        for number in range(count)
    ]
    return {**REPLY, "timeline": windows, "segments": [], "cuts": []}


class Engine:
    """Has one answer, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, dict[str, Any]]] = []
        self.status: Callable[[], int] = lambda: 200
        self.well = True
        self.described = True

    async def models(self) -> list[str]:
        return ["motion"]

    async def describe(self, model: str) -> dict[str, Any]:  # noqa: ARG002
        if not self.described:
            raise refuse("UNAVAILABLE")
        return DESCRIBED

    async def ready(self, model: str | None = None) -> bool:  # noqa: ARG002
        return self.well

    async def predict(self, model: str, video: bytes, options: Mapping[str, Any], **_: object) -> Answer:  # noqa: ARG002
        self.asked.append((video, dict(options)))
        if (status := self.status()) != 200:
            error = {"code": "UNAVAILABLE", "status": status, "message": "A test's.", "hint": "None."}
            return Answer(status, json.dumps({"error": error}).encode())
        return Answer(200, json.dumps(reply_to(options)).encode())

    async def close(self) -> None:
        """Nothing is open."""


Client = httpx.AsyncClient


@asynccontextmanager
async def living(run_dir: Path, engine: Engine, **settings: Any) -> AsyncIterator[Client]:  # noqa: ANN401
    """A whole gateway in this process."""
    app = create_app(Settings(run_dir=run_dir, **settings), engine)  # type: ignore[arg-type]
    incoming: asyncio.Queue[str] = asyncio.Queue()
    messages: asyncio.Queue[str] = asyncio.Queue()
    incoming.put_nowait("lifespan.startup")

    async def receive() -> dict[str, str]:
        return {"type": await incoming.get()}

    async def send(message: Mapping[str, Any]) -> None:
        messages.put_nowait(message["type"])

    async def live() -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

    life = asyncio.create_task(live())
    assert await messages.get() == "lifespan.startup.complete"
    try:
        async with Client(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            yield client
    finally:
        incoming.put_nowait("lifespan.shutdown")
        await life


class FullDisk:
    """Writing videos fails where it is full.

    Args:
        after: bytes that fit.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.room = after
        write = files.NewFile.write

        def limited(file: files.NewFile, data: bytes) -> None:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, data)

        monkeypatch.setattr(files.NewFile, "write", limited)


def run(run_dir: Path, test: Callable[[Client, Engine], Awaitable[None]], **settings: Any) -> None:  # noqa: ANN401
    async def all_of_it() -> None:
        engine = Engine()
        async with living(run_dir, engine, **settings) as client:
            await test(client, engine)

    asyncio.run(all_of_it())


async def ended(client: Client, job_id: str) -> dict[str, Any]:
    for _ in range(1200):
        job: dict[str, Any] = (await client.get(f"/jobs/{job_id}")).json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        await asyncio.sleep(0.05)
    raise AssertionError(job)


async def made(client: Client, **sent: Any) -> str:  # noqa: ANN401
    reply = await client.post("/jobs", **sent)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def left(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "uploads").iterdir())
