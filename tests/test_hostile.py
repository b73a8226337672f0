"""Promise: each bad input has its answer, the same by every way in, and costs nobody else anything."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
import pytest
import requests
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.request import parse_request
from actionrec.sandbox import Sandbox
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded, Decoder, windows

from deploy.management import get_models
from motion.clips import random_clip
from testing.media import encode, textured_frames
from tests import helpers_grpc
from tests.conftest import RunningServer
from tests.hostile import CASES, REFUSED_BY_SERVER, Case, Lure, Refused
from tests.hostile_files import samples

SPEC = ClipSpec(short_side=64, crop=64)
LIMITS = Limits(decode_seconds=60)  # this machine may be busy
LABELS = [f"label {number}" for number in range(8)]
NAMES = [case.name for case in CASES]


@pytest.fixture(scope="module")
def lure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lure]:
    """A file and an address that nobody is to touch; at the end it is shown that nobody did."""
    canary = tmp_path_factory.mktemp("lure") / "canary.mp4"
    canary.write_bytes(encode(textured_frames(160, 120, 70)))
    os.utime(canary, (1, 2))  # read long before it was written, so that any read moves its access time
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield Lure(canary, f"http://127.0.0.1:{server.getsockname()[1]}/canary.mp4")
        with pytest.raises(TimeoutError):
            server.accept()
    assert canary.stat().st_atime == 1
    canary.read_bytes()
    assert canary.stat().st_atime > 1, "this file system keeps no access times, so the fixture shows nothing"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Real children."""
    with Sandbox(SPEC, LIMITS, 1) as running:
        yield running


def check(case: Case, decoder: Decoder, lure: Lure) -> None:
    """Put one case through `parse_request` and a decoder, as the handler does."""
    data = case.make(lure)

    def answer() -> Decoded:
        request = parse_request({"body": data, **case.options}, LABELS)
        return next(decoder(request.video, SPEC, request.selection, LIMITS))

    if case.status == 200:
        assert not case.code or case.code in [warning.code for warning in answer().warnings]
        return
    with pytest.raises(ClipError) as caught:
        answer()
    error = caught.value
    assert (error.status, error.code) == (case.status, case.code), error
    assert error.message
    assert error.hint


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_in_process(case: Case, lure: Lure) -> None:
    """The table holds where decoding runs in the caller's process."""
    check(case, windows, lure)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_in_the_sandbox(case: Case, lure: Lure, sandbox: Sandbox) -> None:
    """The table holds in a child, and no child is lost by it."""
    before = sandbox.replaced
    check(case, sandbox.windows, lure)
    assert sandbox.replaced == before


def worker_pids(server: RunningServer) -> list[int]:
    """Of all workers of the server."""
    found = get_models(server.management_url, server.state.models)
    return [worker.pid for model in found for worker in model.workers]


@pytest.fixture
def steady(motion_server: RunningServer) -> Iterator[RunningServer]:
    """The server, whose workers must be the same processes after the test."""
    before = worker_pids(motion_server)
    yield motion_server
    assert worker_pids(motion_server) == before


def scores(reply: requests.Response) -> list[float]:
    """Of a reply that must be one of the good ones."""
    assert reply.status_code == 200, reply.text
    return [p["score"] for p in sorted(reply.json()["predictions"], key=lambda p: int(p["class_index"]))]


def test_over_grpc(steady: RunningServer, lure: Lure) -> None:
    """The table holds over gRPC; it has no status, so the body says it. A good clip gets its label."""
    clip = random_clip(70, "moving left").data
    answer = helpers_grpc.predict(steady, {"data": clip, "top_k": b"1"})
    assert [p["label"] for p in answer["predictions"]] == ["moving left"]
    for case in CASES:
        options = {name: value.encode() for name, value in case.options.items()}
        reply = helpers_grpc.predict(steady, {"data": case.make(lure), **options})
        if case.status == 200:
            assert not case.code or case.code in [warning["code"] for warning in reply["warnings"]], case.name
        else:
            error = reply["error"]
            assert (error["status"], error["code"]) == (case.status, case.code), (case.name, error)
            assert error["message"]
            assert error["hint"]
    with pytest.raises(grpc.RpcError, match="Model not found"):
        helpers_grpc.predict(steady, {"data": clip}, "nobody")


def test_over_http(steady: RunningServer, lure: Lure, motion_archive: Path) -> None:
    """The table holds over HTTP, alone and among good clips, whose answers stay what they are."""
    clips = [random_clip(70, "moving left").data, random_clip(71, "growing").data]
    expected = [scores(steady.predict(clip, top_k=8)) for clip in clips]
    the_archive = Case("the archive itself", lambda _: motion_archive.read_bytes(), 415, "NOT_A_VIDEO")
    for case in (*CASES, the_archive):
        data = case.make(lure)
        with ThreadPoolExecutor(4) as pool:
            good_ones = [pool.submit(steady.predict, clips[0], top_k=8)]
            bad = pool.submit(steady.predict, data, **case.options)
            good_ones.append(pool.submit(steady.predict, clips[1], top_k=8))
        first = bad.result()
        if "STILL_WORKING" in first.text:  # others were waiting
            first = patiently(steady, data, **case.options)
        for reply in (first, patiently(steady, data, **case.options)):
            assert reply.status_code == case.status, f"{case.name}: {reply.text}"
            body = reply.json()
            if case.status == 200:
                assert not case.code or case.code in [w["code"] for w in body["warnings"]]
            else:
                assert body["error"]["code"] == case.code, case.name
                assert body["error"]["hint"]
                assert body["request_id"]
        for future, scores_alone in zip(good_ones, expected, strict=True):
            assert scores(future.result()) == pytest.approx(scores_alone, abs=1e-4), case.name


@pytest.mark.parametrize("case", REFUSED_BY_SERVER, ids=lambda case: case.name)
def test_broken_requests(case: Refused, steady: RunningServer) -> None:
    """Requests that are broken as requests have the answers that the documents list."""
    reply = case.ask(steady.inference_url, requests.Session())
    assert reply.status_code == case.status, reply.text
    assert case.says in reply.text


def test_a_full_queue(steady: RunningServer) -> None:
    """More requests than the queue holds are told at once to come again, and those in it are answered."""
    (worker,) = worker_pids(steady)
    url = steady.state.predict_url()
    with ThreadPoolExecutor(150) as pool:
        os.kill(worker, signal.SIGSTOP)
        try:
            sent = [pool.submit(requests.put, url, data=b"x", timeout=100) for _ in range(150)]
            deadline = time.monotonic() + 60
            while not any(reply.done() for reply in sent):
                assert time.monotonic() < deadline, "150 requests were let in"
                time.sleep(0.05)
        finally:
            os.kill(worker, signal.SIGCONT)
        replies = [reply.result() for reply in sent]
    assert {reply.status_code for reply in replies} == {415, 503}
    for reply in replies:
        if reply.status_code == 503:
            assert reply.json()["type"] == "ServiceUnavailableException"


def test_describe_cannot_be_smuggled_into_a_batch(steady: RunningServer) -> None:
    """A prediction with TorchServe's own header `describe` gets a description, its neighbours their labels."""
    clip = random_clip(72, "shrinking").data
    with ThreadPoolExecutor(4) as pool:
        url = steady.state.predict_url()
        odd = pool.submit(requests.put, url, data=clip, headers={"describe": "True"}, timeout=60)
        others = list(pool.map(steady.predict, [clip] * 3))
    assert odd.result().json()["name"] == "motion"
    assert [reply.status_code for reply in others] == [200] * 3


def patiently(server: RunningServer, data: bytes, **options: str) -> requests.Response:
    """The reply, asked for again while the work on it goes on."""
    for _ in range(60):
        reply = server.predict(data, **options)
        if "STILL_WORKING" not in reply.text:
            return reply
        time.sleep(0.5)
    return reply


def slow_request(server: RunningServer, data: bytes) -> tuple["Future[requests.Response]", psutil.Process]:
    """A clip that takes about a second to refuse, and the child that is at it."""
    (worker,) = worker_pids(server)
    reply: Future[requests.Response] = Future()
    before = {each.pid: each.cpu_times().user for each in psutil.Process(worker).children(recursive=True)}
    threading.Thread(target=lambda: reply.set_result(patiently(server, data))).start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(worker).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if child.cpu_times().user - before.get(child.pid, 0.05) > 0.05:
                    return reply, child
        time.sleep(0.01)
    pytest.fail("no child has begun to work")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_child_costs_nobody_anything(steady: RunningServer, blow: signal.Signals) -> None:
    """A decoder that is killed or stopped from outside: another one does its work, and others are served
    meanwhile.
    """
    data = samples(99_000, 0) + os.urandom(8)
    undisturbed = patiently(steady, data + b"x")
    reply, child = slow_request(steady, data)
    child.send_signal(blow)
    clip = random_clip(73, "moving up").data
    assert [patiently(steady, clip).status_code for _ in range(3)] == [200] * 3
    answer = reply.result(60)
    assert answer.status_code == undisturbed.status_code
    assert answer.json()["error"]["code"] == undisturbed.json()["error"]["code"]
    psutil.wait_procs([child], 30)
    assert not child.is_running()


def test_the_sandbox_is_described(motion_server: RunningServer) -> None:
    """What is served decodes in the sandbox, and says which defences hold, and the limits."""
    url = f"{motion_server.management_url}/models/motion?customized=true"
    described = requests.get(url, timeout=60).json()[0]["customizedMetadata"]
    assert set(described["sandbox"]["defences"].values()) == {"on"}
    assert described["limits"] == Limits().to_dict()
