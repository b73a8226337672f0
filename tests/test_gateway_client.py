"""Promise: the client makes jobs, waits for them and reads them, with asyncio too, and so do its commands."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actionrec_client import (
    ActionClient,
    AsyncActionClient,
    AsyncJob,
    Job,
    NoReply,
    Refused,
    Timeline,
    Unreachable,
)
from motion.clips import random_clip
from testing.media import encode, textured_frames
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_misbehave import RESET, Answer, misbehaving

pytestmark = pytest.mark.server

CLIP = random_clip(5, "moving left").data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, and a video of 130 windows: three parts."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "clip.mp4").write_bytes(CLIP)
    (folder / "long.mp4").write_bytes(encode(textured_frames(64, 48, 1320), fps=10, options={"g": "20"}))
    return folder


@pytest.fixture(scope="module")
def web(files: Path) -> Iterator[str]:
    """A web server that has them."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, motion_server: RunningServer, web: str
) -> Iterator[RunningGateway]:
    """One before the real engine, that may fetch from that server."""
    options = ("--fetch", f"{web}/", "--fetch-private", "1")
    home = tmp_path_factory.mktemp("client")
    with running(home, motion_server.inference_url, motion_server.management_url, *options) as found:
        yield found


def without_times(reply: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name not in ("timings_ms", "request_id")}


def test_a_job_has_the_timeline_of_the_library(
    gateway: RunningGateway, motion_server: RunningServer, files: Path, web: str
) -> None:
    """By file and by address: the result of a job is that of `timeline` at the engine itself."""
    path = files / "long.mp4"
    expected = without_times(ActionClient(motion_server.inference_url).timeline(path, top_k=3).to_dict())
    count = len(expected["timeline"])
    assert count > 2 * 64  # three parts
    client = ActionClient(gateway.url)
    jobs = [
        client.submit(path, stride_seconds=1.0, top_k=3),
        client.submit(url=f"{web}/long.mp4?X-Signature=secret", stride_seconds=1.0, top_k=3),
    ]
    for job in jobs:
        seen: list[int] = []
        state = job.wait(on_progress=lambda found, seen=seen: seen.append(found.windows))  # type: ignore[misc]
        assert (state.state, state.windows, state.of) == ("done", count, count), state.raw
        assert seen == sorted(seen)
        found = job.results()
        assert isinstance(found, Timeline)
        assert without_times(found.to_dict()) == expected
    assert jobs[1].state.raw["source"] == {"url": f"{web}/long.mp4?..."}
    database = (gateway.home / "run" / "jobs.sqlite").read_bytes()
    assert b"X-Signature" not in database
    assert "X-Signature" not in (gateway.home / "gateway.log").read_text()
    assert list((gateway.home / "run" / "uploads").iterdir()) == []


def test_a_job_of_a_clip_and_what_is_wrong_with_one(
    gateway: RunningGateway, motion_server: RunningServer
) -> None:
    """A clip's job has the result of `classify`; a failed one raises its error; a removed one is gone."""
    client = ActionClient(gateway.url)
    expected = ActionClient(motion_server.inference_url).classify(CLIP, embedding="base64")
    job = client.submit(CLIP, embedding="base64")
    job.wait()
    found = job.results()
    assert found.predictions == expected.predictions
    assert found.embedding is not None
    assert np.array_equal(found.embedding, expected.embedding)  # type: ignore[arg-type]
    failed = client.submit(b"no video at all")
    assert failed.wait().state == "failed"
    with pytest.raises(Refused, match="NOT_A_VIDEO"):
        failed.results()
    assert failed.state.error is not None
    assert [one.id for one in client.jobs("failed")] == [failed.id]
    job.remove()
    with pytest.raises(Refused, match="JOB_NOT_FOUND"):
        client.job(job.id)
    with pytest.raises(ValueError, match="clip or of an url"):
        client.submit(CLIP, url="https://example.org/")
    with pytest.raises(ValueError, match="clip or of an url"):
        client.submit()


def test_waiting_ends_with_its_time_and_the_job_goes_on(gateway: RunningGateway, files: Path) -> None:
    """`wait` with a time limit raises; the job can be cancelled then, and cancelled again."""
    job = ActionClient(gateway.url).submit(files / "long.mp4", stride_seconds=0.1)
    with pytest.raises(NoReply):
        job.wait(timeout=0.2)
    assert job.cancel().state == "cancelled"
    assert job.cancel().state == "cancelled"
    assert job.wait().state == "cancelled"


def test_a_job_is_sent_again_with_its_key_after_a_cut_connection() -> None:
    """A submission whose reply was lost is sent again, with the same Idempotency-Key: it stays one job."""
    progress = {"windows": 0, "of": None, "seconds_left": None}
    view = {"id": "1", "state": "waiting", "progress": progress, "note": None, "error": None}
    with misbehaving([RESET, Answer(202, view)]) as server:
        assert ActionClient(server.url, timeout=20).submit(CLIP).id == "1"
    keys = [headers["Idempotency-Key"] for headers in server.headers]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_the_clients_have_the_same_methods() -> None:
    """Every method and argument of `ActionClient` and `Job` is one of `AsyncActionClient` and `AsyncJob`."""

    def flat(method: Callable[..., object]) -> set[str]:
        names = set()
        for name, parameter in inspect.signature(method, eval_str=True).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                names |= set(parameter.annotation.__args__[0].__annotations__)
            else:
                names.add(name)
        return names

    for own, other in ((ActionClient, AsyncActionClient), (Job, AsyncJob)):
        methods = [name for name in dir(own) if not name.startswith("_")]
        assert [name for name in methods if not hasattr(other, name)] == []
        for name in methods:
            if name in ("model", "url", "id", "state", "knows_model"):
                continue
            assert flat(getattr(own, name)) == flat(getattr(other, name)), name


def test_the_async_client_has_the_answers_of_the_other(
    gateway: RunningGateway, motion_server: RunningServer, files: Path
) -> None:
    """Clips, many of them, timelines, vectors, explanations, jobs and questions: the same with asyncio."""
    client = ActionClient(motion_server.inference_url)
    path = files / "long.mp4"

    async def run() -> None:
        async with (
            AsyncActionClient(motion_server.inference_url) as other,
            AsyncActionClient(gateway.url) as at_gateway,
        ):
            assert await other.model == client.model == "motion"
            assert await other.ready()
            assert await other.describe() == client.describe()
            assert await other.models() == client.models()
            assert (await other.has_jobs(), await at_gateway.has_jobs()) == (False, True)
            assert (await other.classify(CLIP, top_k=2)).predictions == client.classify(
                CLIP, top_k=2
            ).predictions
            many = [item async for item in other.classify_many([CLIP, b"no video", CLIP], 2)]
            assert sorted(type(answer).__name__ for _, answer in many) == ["Refused", "Result", "Result"]
            seen: list[tuple[int, int]] = []
            found = await other.timeline(path, on_progress=lambda *progress: seen.append(progress))
            assert without_times(found.to_dict()) == without_times(client.timeline(path).to_dict())
            assert seen[-1] == (len(found.windows),) * 2
            assert np.array_equal(await other.embed(CLIP), client.embed(CLIP))
            windows = await other.embed_windows(CLIP)
            assert np.array_equal(windows.vectors, client.embed_windows(CLIP).vectors)
            assert (await other.explain(CLIP)).label == client.explain(CLIP).label
            job = await at_gateway.submit(path, stride_seconds=1.0)
            assert (await job.wait()).state == "done"
            assert without_times((await job.results()).to_dict()) == without_times(found.to_dict())
            assert job.id in [one.id async for one in at_gateway.jobs()]
            assert (await (await at_gateway.job(job.id)).cancel()).state == "done"
            await job.remove()
            with pytest.raises(Refused, match="JOB_NOT_FOUND"):
                await job.refresh()

    asyncio.run(run())


def test_the_async_client_tries_again_and_hides_its_token() -> None:
    """It has the deadlines, retries and care for tokens of the other one."""
    token = "0123456789abcdef0123456789abcdef"

    async def run(url: str) -> None:
        async with AsyncActionClient(url, model="m", token=token, timeout=20) as client:
            assert (await client.classify(CLIP)).label
        with pytest.raises(Refused, match="INSECURE_TOKEN"):
            AsyncActionClient("http://example.org:8080", token=token)
        async with AsyncActionClient("http://127.0.0.1:9", model="m", timeout=0.2) as client:
            with pytest.raises(Unreachable):
                await client.classify(CLIP)
        with pytest.raises(ValueError, match="time limit"):
            AsyncActionClient(url, timeout=0)

    with misbehaving([RESET, Answer()]) as server:
        asyncio.run(run(server.url))
    assert [headers["Authorization"] for headers in server.headers] == [f"Bearer {token}"] * 2


def test_the_commands_of_jobs(gateway: RunningGateway, files: Path, web: str, tmp_path: Path) -> None:
    """`submit`, `list`, `show`, `wait` and `cancel` do what they say, with exit codes."""
    url = ("--url", gateway.url)
    made = actionrec("job", "submit", str(files / "clip.mp4"), *url)
    assert made.returncode == 0, made.stderr
    job_id = made.stdout.strip()
    waited = actionrec("job", "wait", job_id, "--json", *url)
    assert json.loads(waited.stdout)["predictions"][0]["label"] == "moving left"
    assert json.loads(actionrec("job", "show", job_id, *url).stdout)["state"] == "done"
    assert job_id in actionrec("job", "list", "--state", "done", *url).stdout
    assert actionrec("job", "cancel", job_id, *url).stdout.strip() == "done"
    subtitles, table = tmp_path / "long.srt", tmp_path / "long.csv"
    both = ("--srt", str(subtitles), "--csv", str(table))
    done = actionrec("job", "submit", f"{web}/long.mp4", "--stride", "1", *both, *url)
    assert done.returncode == 0, done.stderr
    assert "00:00:00,000 --> " in subtitles.read_text()
    assert table.read_text().startswith("start_seconds,end_seconds,label")
    refused = actionrec("job", "submit", "https://example.org/x", *url)
    assert (refused.returncode, "FETCH_NOT_ALLOWED" in refused.stderr) == (1, True)
    assert actionrec("job", "show", "0" * 32, *url).returncode == 1
    assert actionrec("job", "list", "--url", "http://127.0.0.1:9").returncode == 3


def test_a_long_timeline_becomes_a_job_where_there_are_jobs(
    gateway: RunningGateway, motion_server: RunningServer, files: Path
) -> None:
    """`actionrec timeline` has the same answer at a gateway, by a job, as at the engine, in parts."""
    before = {job.id for job in ActionClient(gateway.url).jobs()}
    answers = [
        json.loads(actionrec("timeline", str(files / "long.mp4"), "--json", "--url", url).stdout)
        for url in (gateway.url, motion_server.inference_url)
    ]
    assert without_times(answers[0]) == without_times(answers[1])
    made = {job.id for job in ActionClient(gateway.url).jobs()} - before
    assert len(made) == 1
    named = f"{gateway.url}/predictions/motion"
    short = actionrec("timeline", str(files / "clip.mp4"), "--json", "--url", named)
    assert short.returncode == 0, short.stderr
    assert {job.id for job in ActionClient(gateway.url).jobs()} - before == made  # one request does


def test_a_large_file_of_a_batch_becomes_a_job(gateway: RunningGateway, tmp_path: Path) -> None:
    """`actionrec batch` has an answer for a file that no request takes, where the server is a gateway."""
    large = tmp_path / "large.mp4"
    large.write_bytes(CLIP + (1 << 27).to_bytes(4, "big") + b"free")  # a box of 128 MB, with nothing in it
    with large.open("r+b") as file:
        file.truncate(len(CLIP) + (1 << 27))
    output = tmp_path / "results.jsonl"
    done = actionrec("batch", str(large), "-o", str(output), "--url", gateway.url, "--model", "motion")
    assert done.returncode == 0, done.stderr
    (record,) = map(json.loads, output.read_text().splitlines())
    assert record["predictions"][0]["label"] == "moving left"
