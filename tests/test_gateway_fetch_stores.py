"""Promise: objects of stores are fetched with the environment's credentials, or with none."""

from __future__ import annotations

import asyncio
import json

import pytest
from actionrec.errors import ClipError
from aiohttp import web

from actionrec_gateway.fetch import Fetcher, fetch
from actionrec_gateway.settings import Settings
from tests.helpers_fetch import SECRET, VIDEO, serving


def test_objects_of_a_store_are_fetched_with_the_environments_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`s3://` is read with the environment's key, and without one no metadata service is asked for any."""
    seen: list[tuple[str, str]] = []

    async def store(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("Authorization", "")))
        if request.path != "/bucket/day/my clip.mp4":
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        return web.Response(
            body=VIDEO, headers={"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        )

    async def run(url: str, most_bytes: int = 1 << 20) -> bytes:
        async with serving(store) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            return await Fetcher(Settings(fetch=("s3://bucket/day/",))).fetch(url, most_bytes)

    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert asyncio.run(run("s3://bucket/day/my%20clip.mp4")) == VIDEO
    assert seen[-1] == ("/bucket/day/my clip.mp4", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert asyncio.run(run("s3://bucket/day/my%20clip.mp4")) == VIDEO
    assert "Credential=AKIATEST" in seen[-1][1]
    with pytest.raises(ClipError) as caught:
        asyncio.run(run("s3://bucket/day/none.mp4"))
    assert (caught.value.code, SECRET in str(caught.value)) == ("NOT_FETCHED", False)
    with pytest.raises(ClipError) as caught:
        asyncio.run(run("s3://bucket/day/my%20clip.mp4", 1000))
    assert caught.value.code == "TOO_LARGE"


def test_objects_of_google_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gs://` is read from the place that the environment's service account names."""

    async def store(request: web.Request) -> web.StreamResponse:
        if request.path != "/bucket/clip.mp4":
            return web.Response(status=404)
        return web.Response(
            body=VIDEO, headers={"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        )

    async def run(url: str) -> bytes:
        async with serving(store) as endpoint:
            account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**account, "private_key_id": ""}))
            monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
            return await fetch(url, Settings(fetch=("gs://bucket/",)))

    assert asyncio.run(run("gs://bucket/clip.mp4")) == VIDEO
    with pytest.raises(ClipError) as caught:
        asyncio.run(run("gs://bucket/none.mp4"))
    assert caught.value.code == "NOT_FETCHED"
