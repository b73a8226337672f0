"""Promise: `actionrec stream` says what a file would say, never falls behind, and ends as it is told to."""

import json
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import DEADLINE_SECONDS, RunningServer
from tests.helpers_http import FileServer, serve
from tests.helpers_slow import LiveHls, Proxy, live_http, proxy
from tests.streams import SECONDS_EACH, StreamCommand, motion_video

LABELS = ("moving left", "rotating clockwise")
SCORE = 0.02
"""A stream's frames are rounded to whole levels on their way, which moves a score by up to this."""
PATIENT = ("--max-lag", "60")
"""Frames that come late are used all the same: a busy machine must not change what a test compares."""


@pytest.fixture(scope="module")
def video() -> bytes:
    """Two scenes of three seconds, at a size that has to be resized."""
    return motion_video(*LABELS, size=(320, 240))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, video: bytes) -> str:
    """The path of `video`."""
    path = tmp_path_factory.mktemp("stream") / "scenes.mp4"
    path.write_bytes(video)
    return str(path)


def _url(server: RunningServer) -> str:
    return server.state.predict_url("motion")


def _check_same(server: RunningServer, video: bytes, results: list[dict[str, Any]]) -> None:
    """Each result is what the file, classified from the same second on, gets."""
    for result in results:
        reply = server.predict(video, "motion", start_seconds=result["window"]["start_seconds"], top_k=8).json()
        expected = {entry["label"]: entry["score"] for entry in reply["predictions"]}
        got = {entry["label"]: entry["score"] for entry in result["predictions"]}
        assert got == pytest.approx(expected, abs=SCORE)
        best = reply["predictions"][0]
        sure = best["score"] - reply["predictions"][1]["score"] > 2 * SCORE
        assert not sure or result["predictions"][0]["label"] == best["label"]
        assert result["source_frames"] == reply["clip"]["source_frames"]
        assert result["warnings"] == reply["warnings"]


def test_a_stream_says_what_the_file_says(motion_server: RunningServer, video: bytes, file: str) -> None:
    """Window for window, a file that is played gets the labels and scores of the file that is sent."""
    with StreamCommand(file, "--url", _url(motion_server), "-k", "8", *PATIENT) as command:
        assert command.finish() == 0
    results = command.of("result")
    summary = command.of("summary")[0]
    assert len(results) + summary["windows_skipped"] == 4  # of 6 s, one a second, each 2.13 s long
    assert len(results) >= 2
    _check_same(motion_server, video, results)
    said = {round(event["window"]["start_seconds"]): event["predictions"][0]["label"] for event in results}
    inside = {number: LABELS[number // round(SECONDS_EACH)] for number in said if number % SECONDS_EACH == 0}
    assert {number: said[number] for number in inside} == inside
    assert summary["reason"] == "the source ended"
    assert summary["frames"] == 180


@pytest.mark.parametrize(("name", "container", "ranges"), [("a.mp4", "mp4", True), ("a.ts", "mpegts", False)])
def test_a_file_over_http(motion_server: RunningServer, name: str, container: str, ranges: bool) -> None:
    """An MP4 and an MPEG-TS over HTTP are played at their own speed, and say what the file says."""
    video = motion_video("moving up", container=container, seconds_each=3)
    with serve(FileServer({name: video}, ranges=ranges)) as web:
        arguments = (web.url + name, "--url", _url(motion_server), "--interval", "0.8", "-k", "8", *PATIENT)
        with StreamCommand(*arguments) as command:
            assert command.finish() == 0
    assert command.of("result")
    assert command.of("summary")[0]["frames"] == 90
    _check_same(motion_server, video, command.of("result"))


def test_live_mpegts_over_http(motion_server: RunningServer) -> None:
    """A camera that sends MPEG-TS without an end: when it hangs up that is a gap, and it is called again."""
    video = motion_video("moving up", container="mpegts", seconds_each=3)
    with (
        live_http(video, 3) as camera,
        StreamCommand(camera, "--url", _url(motion_server), "--count", "2", "--interval", "1") as command,
    ):
        assert command.finish() == 0
    gap = command.of("gap")[0]
    assert gap["end_seconds"] >= gap["start_seconds"]
    for result in command.of("result"):
        window = result["window"]
        assert not window["start_seconds"] < gap["end_seconds"] - 0.1 < window["end_seconds"] - 0.2


def test_live_hls(motion_server: RunningServer, tmp_path: Path) -> None:
    """A live HLS has no end, however short its playlist; while it is away that is a gap, then it goes on."""
    video = motion_video("moving up", "moving left", seconds_each=2)
    with (
        LiveHls(video, tmp_path) as camera,
        StreamCommand(camera.url, "--url", _url(motion_server), "--interval", "0.5") as command,
    ):
        command.wait_for("result", 2)
        camera.hide()
        command.wait_for("lost")
        camera.show()
        gap = command.wait_for("gap")
        said = len(command.of("result"))
        command.wait_for("result", said + 2)
        command.process.send_signal(signal.SIGINT)
        assert command.finish() == 0
    assert gap["end_seconds"] > gap["start_seconds"]
    assert {result["predictions"][0]["label"] for result in command.of("result")} & {"moving up", "moving left"}


def test_a_slow_server_is_not_waited_for(motion_server: RunningServer, file: str) -> None:
    """Windows that are complete while the server is busy are skipped and counted; the newest one goes next."""
    interval, delay = 0.25, 1.2
    with proxy(Proxy(motion_server.inference_url, delay_seconds=delay)) as slow:
        url = f"{slow.url}/predictions/motion"
        management = ("--management-url", motion_server.management_url)
        with StreamCommand(file, "--url", url, *management, "--interval", str(interval), *PATIENT) as command:
            assert command.finish() == 0
    results, summary = command.of("result"), command.of("summary")[0]
    windows = int((2 * SECONDS_EACH - 64 / 30) / interval) + 1
    assert len(results) + summary["windows_skipped"] == windows
    assert len(results) <= 2 * SECONDS_EACH / delay
    starts = [result["window"]["start_seconds"] for result in results]
    steps = np.diff(starts)
    # Each time the newest window, not the next one; at the end the last one, which may be the next one too.
    assert (steps[:-1] > 1.5 * interval).all(), starts
    assert starts[-1] == pytest.approx((windows - 1) * interval, abs=1e-3), "the last window was not late"


def test_a_server_that_fails_for_a_while(motion_server: RunningServer, file: str) -> None:
    """A window without an answer is an error line with code and status; the stream goes on."""
    with proxy(Proxy(motion_server.inference_url, failing=True)) as flaky:
        url = f"{flaky.url}/predictions/motion"
        options = ("--management-url", motion_server.management_url, "--timeout", "1")
        with StreamCommand(file, "--url", url, *options, "--count", "1") as command:
            error = command.wait_for("error")
            assert error["error"]["status"] == 503
            assert error["error"]["code"] == "ServiceUnavailableException"
            flaky.failing = False
            assert command.finish() == 0
            command.wait_for("result")


def test_a_server_that_only_fails(motion_server: RunningServer, file: str) -> None:
    """Where no window got an answer the exit code says so, and stderr why."""
    with proxy(Proxy(motion_server.inference_url, failing=True)) as broken:
        url = f"{broken.url}/predictions/motion"
        options = ("--management-url", motion_server.management_url, "--timeout", "0.5", "--max-seconds", "4")
        with StreamCommand(file, "--url", url, *options) as command:
            assert command.finish() == 3
    assert "queue is full" in command.errors


def test_ctrl_c_while_the_server_works(motion_server: RunningServer, file: str) -> None:
    """Ctrl-C does not wait for an answer that is on its way."""
    with proxy(Proxy(motion_server.inference_url, delay_seconds=DEADLINE_SECONDS)) as stuck:
        url = f"{stuck.url}/predictions/motion"
        options = ("--management-url", motion_server.management_url, "--timeout", str(2 * DEADLINE_SECONDS))
        with StreamCommand(file, "--url", url, *options) as command:
            assert stuck.asked.wait(DEADLINE_SECONDS)
            command.process.send_signal(signal.SIGINT)
            assert command.finish() == 0
        stuck.released.set()
    assert command.of("summary")[0]["reason"] == "Ctrl-C"


def test_ctrl_c(motion_server: RunningServer, file: str, tmp_path: Path) -> None:
    """Ctrl-C ends it with a summary and exit code 0; --jsonl has appended all that was said."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"type": "before"}\n', encoding="utf-8")
    with StreamCommand(file, "--url", _url(motion_server), "--jsonl", str(log), "--smooth", "1") as command:
        assert command.wait_for("result")["smoothed"]
        command.process.send_signal(signal.SIGINT)
        assert command.finish() == 0
    assert command.of("summary")[0]["reason"] == "Ctrl-C"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"type": "before"}, *command.events]


def test_what_is_seen(motion_server: RunningServer, file: str, tmp_path: Path) -> None:
    """--output writes a video with every frame and the labels on it; --show serves the picture to this machine
    alone.
    """
    written = tmp_path / "annotated.mp4"
    options = ("--output", str(written), "--show", *PATIENT)
    with StreamCommand(file, "--url", _url(motion_server), *options) as command:
        command.wait_for("result")
        found = re.search(r"http://127\.0\.0\.1:\d+/", "".join(command.error_lines))
        assert found is not None
        with urllib.request.urlopen(found[0] + "stream", timeout=30) as pictures:
            head = pictures.read(4096)
        assert b"image/jpeg" in head
        assert b"\xff\xd8\xff" in head
        foreign = urllib.request.Request(found[0], headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=30)
        assert command.finish() == 0
    with av.open(str(written)) as container, av.open(file) as original:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        source = list(original.decode(video=0))[-1].to_ndarray(format="rgb24")
    assert len(frames) > 100  # drawing may leave out some on a busy machine
    assert frames[0].shape == source.shape
    quarter = source.shape[0] // 4
    drawn = np.abs(frames[-1].astype(int) - source)
    assert drawn[:quarter].mean() < 3, "the picture itself is the source's"
    assert drawn[-quarter:].mean() > 10, "below there is something on it"
    assert frames[-1][-quarter:].max() > 180, "in white"


def test_what_cannot_be_opened(motion_server: RunningServer, tmp_path: Path) -> None:
    """A source that is none ends the command at once, with its own exit code, and a reason and a hint."""
    text = tmp_path / "text.mp4"
    text.write_text("no video", encoding="utf-8")
    for source, said in (
        ("/dev/video97", "There is no camera"),
        ("/dev/null", "/dev/null cannot be opened"),  # a device that is no camera, through the way of one
        (str(text), "invalid data"),
        ("rtsp://user:secret@127.0.0.1:9/live", "connection refused"),
    ):
        with StreamCommand(source, "--url", _url(motion_server)) as command:
            assert command.finish() == 4, source
        assert said in command.errors
        assert "secret" not in command.errors
        assert not command.of("result")


def test_no_server(file: str) -> None:
    """Without a server it does not start, and says so."""
    with StreamCommand(file, "--url", "http://127.0.0.1:9/predictions/motion") as command:
        assert command.finish() == 3
    assert "127.0.0.1:9" in command.errors
