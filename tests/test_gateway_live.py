"""Promise: a stream by its address is watched where the settings allow it, and harms nothing."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import av
import pytest
import requests

from actionrec_gateway.jpeg import jpeg
from testing.media import textured_frames
from tests.conftest import DEADLINE_SECONDS
from tests.helpers_gateway import RunningGateway
from tests.helpers_http import FileServer, serve
from tests.helpers_live import Watching, events, readers, refused, watched
from tests.helpers_slow import jpeg_camera, live_http
from tests.streams import motion_video

pytest_plugins = ("tests.fixtures_gateway", "tests.fixtures_live")
pytestmark = pytest.mark.server

_SECONDS = 20.0


def test_a_transport_stream(watching: Watching) -> None:
    """A result every interval with the right label and the picture; the reader has no rights, and ends."""
    video = motion_video("moving up", container="mpegts", seconds_each=_SECONDS)
    with live_http(video, _SECONDS) as camera, watched(watching, camera) as (gateway, found):
        assert next(found) == ("opened", {"width": 320, "height": 240})
        name, first = next(found)
        assert name == "result"
        assert first["predictions"][0]["label"] == "moving up"
        assert first["end_seconds"] - first["start_seconds"] == pytest.approx(64 / 30, abs=0.01)
        assert first["latency_ms"] < 5000
        with av.open(io.BytesIO(base64.b64decode(first["picture"])), "r") as picture:
            assert (picture.streams.video[0].width, picture.streams.video[0].height) == (320, 240)
        (reader,) = readers(gateway)
        status = Path(f"/proc/{reader.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
        name, second = next(found)
        assert name == "result"
        assert second["start_seconds"] >= first["start_seconds"] + 0.49


def test_a_camera_of_jpegs(watching: Watching) -> None:
    """Pictures one after the other, as most cameras send them."""
    frames = textured_frames(160, 120, 60)
    jpegs = [jpeg(frame) for frame in frames]
    with jpeg_camera(jpegs * 2, 1 / 20) as camera, watched(watching, camera, top_k=2) as (_, found):
        assert next(found)[0] == "opened"
        name, result = next(found)
        assert name == "result"
        assert len(result["predictions"]) == 2


def test_a_stream_that_breaks_off_is_taken_up_again(watching: Watching) -> None:
    """When the camera hangs up that is told, and it is called again."""
    video = motion_video("moving left", container="mpegts", seconds_each=3)
    with live_http(video, 3) as camera, watched(watching, camera) as (_, found):
        names = [next(found)[0] for _ in range(3)]
        while names.count("opened") < 2:
            names.append(next(found)[0])
        assert "lost" in names
        assert names.index("result") < names.index("lost")


def test_a_file_is_played_at_its_own_speed_and_ends(watching: Watching) -> None:
    """A video with an end is watched as long as it is, and no longer."""
    video = motion_video("moving up", container="matroska", seconds_each=3)
    began = time.monotonic()
    with (
        serve(FileServer({"a.mkv": video})) as web,
        watched(watching, web.url + "a.mkv") as (_, found),
    ):
        said = list(found)
    assert said[0][0] == "opened"
    assert said[-1][0] == "ended"
    assert time.monotonic() - began > 2.5
    results = [data for name, data in said if name == "result"]
    assert results
    assert {data["predictions"][0]["label"] for data in results} == {"moving up"}


def test_what_is_no_stream_is_refused(watching: Watching) -> None:
    """No address, no video, no model, nothing there: an error that says so, before any event."""
    with serve(FileServer({"text": b"no video at all" * 1000, "empty": b""})) as web:
        gateway = watching(web.url)
        assert refused(gateway, web.url + "text")["code"] == "NO_STREAM"
        assert refused(gateway, web.url + "gone")["code"] == "NOT_FETCHED"
        assert refused(gateway, web.url + "empty")["code"] in ("EMPTY_BODY", "NO_STREAM")
        assert refused(gateway, web.url + "text", model="nobody")["status"] == 404
    assert refused(gateway, "rtsp://camera/live")["code"] == "BAD_URL"
    assert refused(gateway, "http://169.254.169.254/latest")["code"] == "FETCH_NOT_ALLOWED"
    assert refused(gateway, "s3://bucket/clip.mp4")["status"] == 403
    assert refused(gateway, web.url + "text", interval_seconds=0)["code"] == "BAD_REQUEST"


def test_as_many_as_the_settings_say(watching: Watching) -> None:
    """One more is refused at once; when the first one leaves there is room again."""
    video = motion_video("moving up", container="mpegts", seconds_each=_SECONDS)
    with live_http(video, _SECONDS) as camera:
        gateway = watching(camera)
        with events(gateway, camera) as found:
            next(found)
            assert refused(gateway, camera)["code"] == "TOO_MANY_STREAMS_WATCHED"
        deadline, status = time.monotonic() + DEADLINE_SECONDS, 429
        while status == 429:
            assert time.monotonic() < deadline
            wanted = {"url": camera, "model": "motion"}
            with requests.post(f"{gateway.url}/live", json=wanted, stream=True, timeout=60) as response:
                status = response.status_code
        assert status == 200


def test_nothing_is_watched_where_nothing_may_be_fetched(gateway: RunningGateway) -> None:
    """Without the setting there is no stream."""
    assert refused(gateway, "http://camera.example.org/live")["code"] == "FETCH_OFF"


def test_a_reader_that_dies_is_replaced(watching: Watching) -> None:
    """Whatever a stream does to its reader costs that stream some seconds, and nobody else anything."""
    video = motion_video("moving up", container="mpegts", seconds_each=20)
    with live_http(video, 20) as camera, watched(watching, camera) as (gateway, found):
        next(found)
        (reader,) = readers(gateway)
        reader.kill()
        names: list[str] = []
        while "lost" not in names or names[-1] != "result":
            names.append(next(found)[0])


def test_the_end_of_the_gateway_ends_it(watching: Watching) -> None:
    """A gateway that is told to end does not wait for a stream."""
    video = motion_video("moving up", container="mpegts", seconds_each=30)
    with live_http(video, 30) as camera, watched(watching, camera) as (gateway, found):
        next(found)
        (reader,) = readers(gateway)
        gateway.process.terminate()
        assert gateway.process.wait(20) == 0
        assert not reader.is_running()
