"""Promise: what cannot be made to happen from outside ends well too: full disks, lost queue entries, taken-over
children, files that nobody wants.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from actionrec.limits import Limits
from actionrec.sampling import Selection

from actionrec_client.timeline.long_video import LongVideo
from actionrec_client.timeline.sent import IN_THIS_PROCESS
from actionrec_gateway.jobs import asker, files, service, store, webhooks, work
from actionrec_gateway.jobs.asked import Asked, check_size
from actionrec_gateway.jobs.cutter import CutterProcess
from testing.media import encode, textured_frames
from tests.helpers_inside import DESCRIBED, Client, Engine, FullDisk, ended, left, made, refused, reply_to, run
from tests.helpers_jobs import free_port


def test_a_full_disk_keeps_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while a video comes, or is too small from the start: 507, no file, no job."""
    disk = FullDisk(monkeypatch, 3 << 20)

    async def test(client: Client, engine: Engine) -> None:
        reply = await client.post("/jobs", content=bytes(5 << 20))
        assert refused(reply) == (507, "NO_ROOM")
        reply = await client.post("/jobs", files={"video": bytes(5 << 20)})
        assert refused(reply) == (507, "NO_ROOM")
        disk.room = 1 << 30
        monkeypatch.setattr(files.Files, "free_bytes", lambda _: 1000)
        assert refused(await client.post("/jobs", content=bytes(2000))) == (507, "NO_ROOM")
        assert left(tmp_path) == []
        assert (await client.get("/jobs")).json()["jobs"] == []
        assert engine.asked == []

    run(tmp_path, test)


def test_a_database_without_room_takes_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full database is 507 and one that is away 503; the video is not kept."""

    async def test(client: Client, _: Engine) -> None:
        for text, expected in (("database or disk is full", (507, "NO_ROOM")), ("gone", (503, "UNAVAILABLE"))):

            def create(*_: object, text: str = text) -> None:
                raise sa.exc.OperationalError("INSERT", {}, Exception(text))

            with monkeypatch.context() as patched:
                patched.setattr(store.JobStore, "create", create)
                assert refused(await client.post("/jobs", content=b"video")) == expected
            assert left(tmp_path) == []

    run(tmp_path, test)


def test_a_fetch_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job by address whose video does not fit waits, says so, and goes on when there is room."""
    disk = FullDisk(monkeypatch, 0)
    monkeypatch.setattr(work, "_NO_ROOM_SECONDS", 0.2)
    port = free_port()

    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nvideo")
        await writer.drain()
        writer.close()

    async def test(client: Client, engine: Engine) -> None:
        async with await asyncio.start_server(server, "127.0.0.1", port):
            for _ in range(2):
                job = await made(client, json={"url": f"http://127.0.0.1:{port}/clip.mp4"})
                while disk.room <= 0:
                    note = (await client.get(f"/jobs/{job}")).json()["note"]
                    if note and note.startswith("There is no room"):
                        disk.room = 1000
                    await asyncio.sleep(0.05)
                assert (await ended(client, job))["state"] == "done"
        assert [video for video, _ in engine.asked] == [b"video"] * 2
        assert left(tmp_path) == []

    run(
        tmp_path,
        test,
        fetch=(f"http://127.0.0.1:{port}/",),
        fetch_private=True,
    )


def test_a_job_that_was_not_queued_is_queued_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that dies between writing a job down and queueing it loses no job."""
    monkeypatch.setattr(service, "_UNQUEUED_SECONDS", 0.0)
    failures = iter([True])
    enqueue = service.Jobs._enqueue

    def fails_once(jobs: service.Jobs, job: Any) -> None:  # noqa: ANN401
        if next(failures, False):
            raise RuntimeError("killed here")
        enqueue(jobs, job)

    monkeypatch.setattr(service.Jobs, "_enqueue", fails_once)

    async def test(client: Client, _: Engine) -> None:
        assert (await ended(client, await made(client, content=b"video")))["state"] == "done"

    run(tmp_path, test)


def test_a_part_that_ends_its_workers_fails_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that answers others but never this part is not asked for ever; one that is away is."""
    for name, value in (("MOST_TRIES", 5), ("FIRST_WAIT_SECONDS", 0.01), ("LONGEST_WAIT_SECONDS", 0.01)):
        monkeypatch.setattr(asker, name, value)

    async def test(client: Client, engine: Engine) -> None:
        engine.status = lambda: 503
        found = await ended(client, await made(client, content=b"poison"))
        assert (found["state"], found["error"]["code"]) == ("failed", "UNAVAILABLE")
        assert len(engine.asked) == 5
        engine.well = False
        job = await made(client, content=b"clip")
        while len(engine.asked) < 20:
            await asyncio.sleep(0.01)
        engine.status = lambda: 200
        assert (await ended(client, job))["state"] == "done"

    run(tmp_path, test)


def test_a_timeline_needs_no_management(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the archive cannot be asked what it is, a reply says how long a window is, as for the library."""
    for name in ("FIRST_WAIT_SECONDS", "LONGEST_WAIT_SECONDS"):
        monkeypatch.setattr(asker, name, 0.01)
    video = encode(textured_frames(64, 48, 900), fps=10, options={"g": "10"})

    async def test(client: Client, engine: Engine) -> None:
        engine.described = False
        engine.status = lambda: 200
        found = await ended(client, await made(client, content=video, params={"stride_seconds": "1"}))
        assert (found["state"], found["progress"]["of"]) == ("done", found["progress"]["windows"]), found
        assert found["progress"]["of"] > 64
        assert engine.asked[0][1] == {}  # the sample

    run(tmp_path, test)


def test_finished_jobs_and_forgotten_files_are_tidied_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too old goes from all tables and the disk; what a job still needs stays."""
    monkeypatch.setattr(service, "_TIDY_SECONDS", 0.2)

    async def test(client: Client, engine: Engine) -> None:
        engine.status = lambda: 503
        engine.well = False
        needed = await made(client, content=b"video")
        old = time.time() - 2 * files._FORGOTTEN_SECONDS
        for name in ("0123.part", "4567", "89ab.url"):
            (tmp_path / "uploads" / name).write_bytes(b"left behind")
            os.utime(tmp_path / "uploads" / name, (old, old))
        (tmp_path / "uploads" / "new.part").write_bytes(b"being written")
        os.utime(tmp_path / "uploads" / needed, (old, old))
        while len(left(tmp_path)) > 2:
            await asyncio.sleep(0.05)
        assert left(tmp_path) == sorted([needed, "new.part"])
        engine.status = lambda: 200
        while (await client.get("/jobs")).json()["jobs"]:  # it is done, and older than no days
            await asyncio.sleep(0.05)
        tables = sa.create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        with tables.connect() as connection:
            for table in ("actionrec_jobs", "actionrec_parts", "actionrec_results", "workflow_status"):
                assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar() == 0, table

    run(tmp_path, test, keep_days=0.0)


def test_a_clip_of_a_huge_video_is_cut_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a video that no request takes, only the range that is asked for is sent; its times are the whole's."""
    video = encode(textured_frames(64, 48, 1200), fps=10, options={"g": "10"})
    monkeypatch.setattr(work, "DEFAULT_LIMITS", Limits(body_bytes=len(video) // 4))

    async def test(client: Client, engine: Engine) -> None:
        job = await made(client, content=video, params={"start_seconds": "60.5"})
        found = await ended(client, job)
        assert found["state"] == "done", found
        sent, options = engine.asked[-1]
        assert len(sent) < len(video) // 8
        assert 0.0 <= options["start_seconds"] < 2.0
        clip = (await client.get(f"/jobs/{job}/results")).json()["clip"]
        assert clip["start_seconds"] == pytest.approx(60.5 - options["start_seconds"])  # the fake's says 0
        whole = await made(client, content=video, params={"views": "3"})
        assert (await ended(client, whole))["error"]["code"] == "TOO_LARGE"

    run(tmp_path, test)
    with pytest.raises(ValueError, match="explained"):
        check_size(Asked("motion", None, {"explain": True}, None, None), 1 << 30)


def test_the_process_that_reads_videos_can_do_nothing_else(tmp_path: Path) -> None:
    """It has given up files, networks and new processes, and what it is asked for is what the library gives."""
    video = encode(textured_frames(64, 48, 300), fps=10, options={"g": "10"})
    path = tmp_path / "video"
    path.write_bytes(video)
    cutter = CutterProcess(path)
    try:
        assert cutter.defences["seccomp"] == cutter.defences["no_new_privileges"] == "on"
        index = cutter.cuttable(path)
        sender = _Recorded()
        selection = Selection(stride_seconds=0.2)
        for opened in (cutter, IN_THIS_PROCESS):
            LongVideo(
                sender, selection, None, None, 1, None, limits=Limits(body_bytes=len(video)), cutter=opened
            ).timeline(path)
        half = len(sender.posted) // 2
        assert half > 1
        assert sender.posted[:half] == sender.posted[half:]
        cutter.kill()
        with pytest.raises(ValueError, match="DECODER_CRASHED"):
            index.part(0.0, 1.0)
    finally:
        cutter.close()


class _Recorded:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.posted: list[tuple[bytes, dict[str, Any]]] = []

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002
        self.posted.append((data, dict(options)))
        return reply_to(options)

    def describe(self) -> dict[str, Any]:
        return DESCRIBED


def test_waits_between_calls_grow() -> None:
    """A server that is down for a day is still called when it is back."""
    waits = webhooks.WAITS_SECONDS
    assert list(waits) == sorted(waits)
    assert sum(waits) > 16 * 3600
