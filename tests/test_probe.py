"""Promise: of what the supervisor sees only right answers count, its signs of life are real, files may lie."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import requests

from deploy import processes
from deploy.management import get_models
from deploy.preflight import DeployError
from deploy.probe import Answer, predicts, progress
from deploy.processes import ServerProcess, runs
from deploy.pulse import Pulse
from deploy.state import State, load_state, load_supervisor, state_file, supervisor_file
from tests.conftest import RunningServer
from tests.helpers_http import running

RIGHT = {"predictions": [{"label": "walking", "score": 0.9}], "model": {"name": "any"}}
MOTION = {"name": "motion"}
STATE = State(
    ServerProcess(2, 2, 1.5), ("any",), "http://127.0.0.1:1", "http://x", "http://x", "/tmp/x", "/tmp/y"
)


@contextmanager
def answering(status: int, body: str) -> Iterator[State]:
    """A server that says the same to everything; yields a state whose addresses all lead to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield replace(STATE, inference_url=url, management_url=url, metrics_url=f"{url}/metrics")


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, json.dumps(RIGHT), Answer.RIGHT),
        (200, json.dumps(RIGHT | {"model": MOTION}), Answer.WRONG),
        (
            200,
            json.dumps({"predictions": [{"label": "moving right", "score": 1}], "model": MOTION}),
            Answer.RIGHT,
        ),
        (200, json.dumps(RIGHT | {"predictions": []}), Answer.WRONG),
        (200, '{"predictions": [{"label": "walking", "score": NaN}]}', Answer.WRONG),
        (200, '{"predictions": [{"label": "walking", "score": true}]}', Answer.WRONG),
        (200, '{"predictions": [{"label": 7, "score": 0.5}]}', Answer.WRONG),
        (200, '{"predictions": [{"label": "walking", "score": 0.5}], "model": 3}', Answer.WRONG),
        (200, '{"predictions": 3}', Answer.WRONG),
        (200, "ok", Answer.WRONG),
        (200, "[" * 100_000, Answer.WRONG),
        (503, '{"code": 503, "type": "ServiceUnavailableException"}', Answer.BUSY),
        (503, '{"error": {"code": "STILL_WORKING"}}', Answer.BUSY),
        (503, '{"error": {"code": "DECODER_UNAVAILABLE"}}', Answer.WRONG),
        (503, '{"error": {"code": "OUT_OF_TIME"}}', Answer.WRONG),
        (503, '{"code": 503, "type": "InternalServerException"}', Answer.WRONG),
        (500, '{"error": {"code": "INTERNAL"}}', Answer.WRONG),
        (422, '{"error": {"code": "DECODE_TIMEOUT"}}', Answer.WRONG),
        (404, '{"code": 404, "type": "ModelNotFoundException"}', Answer.WRONG),
    ],
)
def test_only_a_right_answer_is_right(status: int, body: str, answer: Answer) -> None:
    """The probe clip is a good one: every answer but a well-formed prediction is a fault, or says busy."""
    with answering(status, body) as state:
        assert predicts(state, "any", 30).answer is answer


def test_nobody_answers() -> None:
    """A refused connection is a fault, and no exception."""
    assert predicts(STATE, "any", 5).answer is Answer.WRONG
    assert progress(STATE, "any", 5) is None


def test_progress_is_made_of_right_answers(motion_server: RunningServer) -> None:
    """On the real model the probe is right and changes what is looked at; errors for others do not."""
    state = motion_server.state
    assert predicts(state, "motion", 60).answer is Answer.RIGHT
    before = progress(state, "motion", 10)
    assert before is not None
    assert len(before.last_times) == 3
    refused = motion_server.predict(b"no video", "motion")
    assert refused.status_code == 415
    after_error = progress(state, "motion", 10)
    assert after_error is not None
    assert after_error.last_times == before.last_times
    assert after_error.asked == before.asked + 1
    assert after_error.answered > before.answered
    assert predicts(state, "motion", 60).answer is Answer.RIGHT
    deadline = time.monotonic() + 30  # TorchServe reads them from the worker's output
    while (after := progress(state, "motion", 10)) and after.last_times == before.last_times:
        assert time.monotonic() < deadline, "a right answer is not seen"


@pytest.mark.parametrize("body", ["", "3", "[3]", "[{}]", '[{"modelName": "any"}]', "<html>"])
def test_odd_management_replies(body: str) -> None:
    """They are one known exception, which the supervisor takes for no answer."""
    with answering(200, body) as state, pytest.raises(requests.RequestException, match="odd reply"):
        get_models(state.management_url, ["any"])


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[psutil.Process]:
    """A Python process that runs the code it is parametrised with."""
    code = f"print(flush=True)\n{request.param}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()  # Python has started
        yield psutil.Process(child.pid)
        child.kill()


def felt(pulse: Pulse, seconds: float) -> float:
    """Feel it twice; how long ago it was at work, as a share of the time between."""
    pulse.feel()
    time.sleep(seconds)
    pulse.feel()
    return (time.monotonic() - pulse.worked) / seconds


@pytest.mark.parametrize("process", ["import time; time.sleep(600)"], indirect=True)
def test_a_process_that_waits(process: psutil.Process) -> None:
    """One that waits is not at work; one that is stopped is seen, resumed, and seen no more."""
    pulse = Pulse(process)
    felt(pulse, 0.2)  # the end of its start
    assert felt(pulse, 0.5) >= 1
    assert pulse.stopped_since is None
    process.send_signal(signal.SIGSTOP)
    felt(pulse, 0.2)
    assert pulse.stopped_since is not None
    pulse.resume()
    felt(pulse, 0.2)
    assert pulse.stopped_since is None
    pulse.kill()
    process.wait(10)
    pulse.feel()
    pulse.kill()  # of what is gone: nothing


@pytest.mark.parametrize(
    "process",
    [
        "while True: pass",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'], timeout=60)",
    ],
    indirect=True,
)
def test_a_process_at_work(process: psutil.Process) -> None:
    """A process that computes, and one whose child does, are at work."""
    pulse = Pulse(process)
    try:
        deadline = time.monotonic() + 60
        while felt(pulse, 0.5) >= 1:
            assert time.monotonic() < deadline, "it is never seen at work"
    finally:
        for child in process.children():
            child.kill()


def test_a_proc_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be looked at is there; no look at it, and no end of it, raises."""
    mine = ServerProcess.of(psutil.Process().pid)

    def denied(self: psutil.Process) -> str:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "status", denied)
    monkeypatch.setattr(psutil.Process, "send_signal", lambda self, _: denied(self))
    monkeypatch.setattr(psutil.Process, "cmdline", denied)
    wait_gone = processes.wait_gone
    monkeypatch.setattr(processes, "wait_gone", lambda waited_for, _: wait_gone(waited_for, 0.1))
    assert mine.alive()
    assert runs(psutil.Process())
    assert mine.children() == []
    pulse = Pulse(psutil.Process())
    assert felt(pulse, 0.1) < 1
    pulse.resume()
    child = subprocess.Popen(["sleep", "600"])
    try:
        ServerProcess(child.pid, child.pid, psutil.Process(child.pid).create_time()).end(0.1)
    finally:
        child.kill()
        child.wait()


WELL = asdict(STATE) | {"models": ["any"]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"[" * 100_000,
        json.dumps(WELL | {"process": 3}).encode(),
        json.dumps(WELL | {"process": {"pid": "2", "session": 2, "created": 1.0}}).encode(),
        json.dumps(WELL | {"process": {"pid": -1, "session": 2, "created": 1.0}}).encode(),
        json.dumps(WELL | {"models": "any"}).encode(),
        json.dumps(WELL | {"models": []}).encode(),
        json.dumps(WELL | {"temp_dir": 3}).encode(),
        json.dumps(WELL | {"more": "x"}).encode(),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    """A damaged state is one known error, a damaged name of the supervisor is none: neither is believed."""
    state_file(tmp_path).write_bytes(content)
    supervisor_file(tmp_path).write_bytes(content)
    with pytest.raises(DeployError, match="is damaged"):
        load_state(tmp_path)
    assert load_supervisor(tmp_path) is None


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    """What is written is what is read."""
    STATE.save(tmp_path)
    assert load_state(tmp_path) == STATE
