"""Promise: a job is taken, done, looked at, cancelled and forgotten as its client was told."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from actionrec_gateway.jobs import database
from actionrec_gateway.jobs.ledger import Ledger
from actionrec_gateway.jobs.states import Job
from actionrec_gateway.jobs.store import JobStore
from deploy.nginx import add_token
from tests.conftest import DEADLINE_SECONDS
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_jobs import CountingEngine, counting, ended, job_at, until

pytestmark = pytest.mark.server

VIDEO = b"a video of no kind"


@pytest.fixture(scope="module")
def engine() -> Iterator[CountingEngine]:
    with counting() as found:
        yield found


@pytest.fixture
def free(engine: CountingEngine) -> Iterator[CountingEngine]:
    """The engine, which holds nothing and refuses nothing when the test is done."""
    engine.asked.clear()
    yield engine
    engine.refuse = lambda _: 0
    engine.odd = {}
    engine.let_pass.set()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, engine: CountingEngine) -> Iterator[RunningGateway]:
    options = ("--upload-bytes", "1000000", "--jobs-per-client", "8")
    with running(tmp_path_factory.mktemp("jobs"), engine.url, engine.url, *options) as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_left(gateway: RunningGateway) -> Iterator[None]:
    """Each test begins without jobs."""
    yield
    url = gateway.url
    for job in requests.get(f"{url}/jobs?limit=200", timeout=DEADLINE_SECONDS).json()["jobs"]:
        requests.delete(f"{url}/jobs/{job['id']}/results", timeout=DEADLINE_SECONDS)


def made(reply: requests.Response) -> dict[str, Any]:
    assert reply.status_code == 202, reply.text
    job = dict(reply.json())
    assert reply.headers["Location"] == f"/jobs/{job['id']}"
    return job


def refused(reply: requests.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert error["message"]
    assert error["hint"]
    assert error["status"] == reply.status_code
    return reply.status_code, error["code"]


def uploads(gateway: RunningGateway) -> list[str]:
    return sorted(path.name for path in (gateway.home / "run" / "uploads").iterdir())


@pytest.mark.usefixtures("free")
def test_a_job_of_a_clip_has_the_reply_of_a_request(gateway: RunningGateway) -> None:
    """Sent as the body or as a form, a clip becomes a job whose result is the reply; its file is removed."""
    ways: list[dict[str, Any]] = [
        {"data": VIDEO, "params": {"top_k": "1"}},
        {"files": {"video": ("any/../name", VIDEO)}, "data": {"top_k": "1"}},
    ]
    for way in ways:
        job = made(requests.post(f"{gateway.url}/jobs", timeout=DEADLINE_SECONDS, **way))
        assert (job["model"], job["options"], job["source"]["bytes"]) == ("motion", {"top_k": 1}, len(VIDEO))
        found = ended(gateway.url, job["id"])
        assert (found["state"], found["progress"]["windows"], found["progress"]["of"]) == ("done", 1, 1)
        reply = gateway.get(f"/jobs/{job['id']}/results").json()
        assert reply["predictions"][0]["label"] == "moving left"
        until(lambda: uploads(gateway) == [])


def test_a_key_makes_one_job_however_often_it_is_sent(gateway: RunningGateway, free: CountingEngine) -> None:
    """The same request with the same Idempotency-Key, even at once, is one job; another request is refused."""

    def send(video: bytes = VIDEO) -> requests.Response:
        return gateway.post("/jobs", video, headers={"Idempotency-Key": "the-key"})

    with ThreadPoolExecutor(8) as pool:
        ids = {made(reply)["id"] for reply in pool.map(lambda _: send(), range(16))}
    assert len(ids) == 1
    ended(gateway.url, ids.pop())
    assert made(send())["state"] == "done"
    assert sum(free.asked.values()) == 1
    assert refused(send(b"another video")) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert uploads(gateway) == []


def test_a_client_may_have_so_many_jobs(gateway: RunningGateway, free: CountingEngine) -> None:
    """One job more than allowed is refused, also where many come at once; there is room when one has ended."""
    free.let_pass.clear()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: gateway.post("/jobs", VIDEO + bytes([n])), range(16)))
    assert sorted(reply.status_code for reply in replies) == [202] * 8 + [429] * 8
    assert {refused(reply) for reply in replies if reply.status_code == 429} == {(429, "TOO_MANY_JOBS")}
    free.let_pass.set()
    for reply in replies:
        if reply.status_code == 202:
            ended(gateway.url, reply.json()["id"])
    made(gateway.post("/jobs", VIDEO))


def test_a_job_that_is_cancelled_ends_at_once(gateway: RunningGateway, free: CountingEngine) -> None:
    """DELETE ends a job that runs and one that waits; both keep that state, and their files are gone."""
    free.let_pass.clear()
    jobs = [made(gateway.post("/jobs", VIDEO + bytes([number]))) for number in range(6)]
    until(lambda: free.held == 2)  # as many as are worked on at a time
    for job in jobs:
        reply = requests.delete(f"{gateway.url}/jobs/{job['id']}", timeout=DEADLINE_SECONDS)
        assert (reply.status_code, reply.json()["state"]) == (200, "cancelled")
    last = made(gateway.post("/jobs", b"the last"))
    until(lambda: free.asked.total() == 3)  # its turn has come
    free.let_pass.set()
    assert ended(gateway.url, last["id"])["state"] == "done"
    assert {job_at(gateway.url, job["id"])["state"] for job in jobs} == {"cancelled"}
    assert refused(gateway.get(f"/jobs/{jobs[0]['id']}/results")) == (409, "JOB_CANCELLED")
    until(lambda: uploads(gateway) == [])


def test_a_job_waits_for_the_engine_and_fails_for_what_would_come_again(
    gateway: RunningGateway, free: CountingEngine
) -> None:
    """A busy engine is asked until it answers; a refusal of the video is the job's error."""
    free.refuse = lambda _: 503
    job = made(gateway.post("/jobs", VIDEO))
    until(lambda: (job_at(gateway.url, job["id"])["note"] or "").startswith("The engine does not answer"))
    free.refuse = lambda _: 0
    assert ended(gateway.url, job["id"])["state"] == "done"
    free.refuse = lambda _: 422
    job = made(gateway.post("/jobs", VIDEO))
    found = ended(gateway.url, job["id"])
    assert (found["state"], found["error"]["code"], found["error"]["status"]) == ("failed", "OUT_OF_REACH", 422)
    assert refused(gateway.get(f"/jobs/{job['id']}/results")) == (422, "OUT_OF_REACH")


@pytest.mark.usefixtures("free")
def test_what_is_no_job_is_refused_before_it_is_one(gateway: RunningGateway) -> None:
    """Wrong options, no video, two, too much, or an address where none may be fetched: no job, and no file."""

    def json_of(value: object) -> requests.Response:
        return gateway.post("/jobs", json.dumps(value), headers={"Content-Type": "application/json"})

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert refused(gateway.post("/jobs?stride_seconds=0", VIDEO)) == (400, "OPTION_OUT_OF_RANGE")
    assert refused(gateway.post("/jobs?strides=1", VIDEO)) == (400, "UNKNOWN_OPTION")
    assert refused(gateway.post("/jobs?top_k=1&top_k=2", VIDEO)) == (400, "CONFLICTING_OPTIONS")
    assert refused(gateway.post("/jobs?views=2&stride_seconds=1", VIDEO)) == (400, "CONFLICTING_OPTIONS")
    assert refused(gateway.post("/jobs?model=../other", VIDEO)) == (400, "BAD_OPTION")
    assert refused(gateway.post("/jobs?url=https://example.org/x", VIDEO)) == (400, "BAD_OPTION")
    assert refused(gateway.post("/jobs", VIDEO, headers={"Idempotency-Key": ""})) == (400, "BAD_OPTION")
    assert refused(gateway.post("/jobs")) == (400, "NO_VIDEO")
    assert refused(gateway.post("/jobs", bytes(1_000_001))) == (413, "TOO_LARGE")
    assert refused(gateway.post("/jobs", iter([bytes(1 << 16)] * 20))) == (413, "TOO_LARGE")
    assert refused(gateway.post("/jobs", b"--x\r\n\r\nbroken", headers=form)) == (400, "BAD_FORM")
    assert refused(gateway.post("/jobs", files={"video": VIDEO, "data": VIDEO})) == (400, "TWO_VIDEOS")
    assert refused(gateway.post("/jobs", files={"video": b""})) == (400, "NO_VIDEO")
    assert refused(json_of({"url": "https://example.org/x"})) == (403, "FETCH_OFF")
    assert refused(json_of({"url": "https://u:p@example.org/x"})) == (400, "CREDENTIALS_IN_URL")
    assert refused(json_of({"video": "AAAA"})) == (400, "BAD_JSON")
    assert refused(json_of(["url"])) == (400, "BAD_JSON")
    assert refused(json_of({})) == (400, "NO_VIDEO")
    assert refused(gateway.post("/jobs?webhook=https://example.org/", VIDEO)) == (400, "WEBHOOKS_OFF")
    assert refused(gateway.get("/jobs/0123")) == (422, "BAD_REQUEST")
    assert refused(gateway.get(f"/jobs/{'0' * 32}")) == (404, "JOB_NOT_FOUND")
    assert gateway.get("/jobs").json()["jobs"] == []
    assert uploads(gateway) == []


@pytest.mark.usefixtures("free")
def test_jobs_are_listed_page_by_page(gateway: RunningGateway) -> None:
    """The list has each job once, the newest first, however small its pages are, and by state."""
    ids = [made(gateway.post("/jobs", VIDEO))["id"] for _ in range(5)]
    for job_id in ids:
        ended(gateway.url, job_id)
    found, path = [], "/jobs?limit=2&state=done"
    while path:
        page = gateway.get(path).json()
        assert len(page["jobs"]) <= 2
        found += [job["id"] for job in page["jobs"]]
        path = page["next"]
    assert found == ids[::-1]
    assert gateway.get("/jobs?state=failed").json() == {"jobs": [], "next": None}


def test_events_tell_of_each_change_until_the_end(gateway: RunningGateway, free: CountingEngine) -> None:
    """The stream of events has the states in order and ends with the job; it goes on from the last one seen."""
    free.let_pass.clear()
    job = made(gateway.post("/jobs", VIDEO))
    url = f"{gateway.url}/jobs/{job['id']}/events"
    with requests.get(url, stream=True, timeout=DEADLINE_SECONDS) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = []
        for line in stream.iter_lines():
            lines.append(line.decode())
            if line == b"event: running":
                free.let_pass.set()
    states = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert states[-1] == "done"
    assert "running" in states
    last = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")][-1]
    again = requests.get(url, headers={"Last-Event-ID": last}, timeout=DEADLINE_SECONDS).text
    assert "event:" not in again


@pytest.mark.usefixtures("free")
def test_a_video_that_breaks_off_leaves_nothing(gateway: RunningGateway) -> None:
    """A sender who goes away in the middle makes no job and leaves no file."""
    port = urlsplit(gateway.url).port
    with socket.create_connection(("127.0.0.1", port or 0)) as connection:
        connection.sendall(b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + bytes(2000))
        until(lambda: uploads(gateway) != [])
    until(lambda: uploads(gateway) == [])
    assert gateway.get("/jobs").json()["jobs"] == []


@pytest.mark.usefixtures("free")
def test_jobs_are_counted_for_prometheus(gateway: RunningGateway) -> None:
    """The metrics say how many jobs there are in each state."""
    ended(gateway.url, made(gateway.post("/jobs", VIDEO))["id"])
    assert 'actionrec_jobs{state="done"} 1.0' in gateway.get("/metrics").text


def test_an_engine_that_speaks_otherwise_costs_its_own_metrics_only(
    gateway: RunningGateway, free: CountingEngine
) -> None:
    """Workers that are not told of as TorchServe tells are not counted; all else is."""
    assert 'actionrec_workers_wanted{model="motion"} 1.0' in gateway.get("/metrics").text
    for odd in ({"minWorkers": None}, {"workers": [{"id": "1"}]}, {"workers": 3}):
        free.odd = odd
        reply = gateway.get("/metrics")
        assert reply.status_code == 200
        assert "actionrec_workers_wanted{" not in reply.text
        assert "actionrec_engine_up 1.0" in reply.text


def test_a_client_sees_its_own_jobs_only(tmp_path: Path, free: CountingEngine) -> None:
    """With tokens, the jobs of others are not there: not listed, not shown, not cancelled, not removed."""
    tokens = tmp_path / "tokens"
    ada, bob = ({"Authorization": f"Bearer {add_token(tokens, name)}"} for name in ("ada", "bob"))
    with running(tmp_path, free.url, free.url, "--tokens", str(tokens), "--admins", "bob") as gateway:
        job = made(gateway.post("/jobs", VIDEO, headers={**ada, "Idempotency-Key": "k"}))
        ended(gateway.url, job["id"], ada)
        assert gateway.post("/jobs", VIDEO).status_code == 401
        assert gateway.get("/jobs", headers=bob).json()["jobs"] == []
        for path in ("", "/results", "/events"):
            assert refused(gateway.get(f"/jobs/{job['id']}{path}", headers=bob)) == (404, "JOB_NOT_FOUND")
        for path in ("", "/results"):
            reply = requests.delete(
                f"{gateway.url}/jobs/{job['id']}{path}", headers=bob, timeout=DEADLINE_SECONDS
            )
            assert refused(reply) == (404, "JOB_NOT_FOUND")
        assert refused(gateway.get(f"/jobs?after={job['id']}", headers=bob)) == (404, "JOB_NOT_FOUND")
        other = made(gateway.post("/jobs", VIDEO, headers={**bob, "Idempotency-Key": "k"}))
        assert other["id"] != job["id"]
        assert [found["id"] for found in gateway.get("/jobs", headers=ada).json()["jobs"]] == [job["id"]]


def test_a_client_with_many_jobs_does_not_keep_others_waiting(tmp_path: Path, free: CountingEngine) -> None:
    """A job of another client is done before those that one has waiting."""
    tokens = tmp_path / "tokens"
    ada, bob = ({"Authorization": f"Bearer {add_token(tokens, name)}"} for name in ("ada", "bob"))
    with running(tmp_path, free.url, free.url, "--tokens", str(tokens)) as gateway:
        free.let_pass.clear()
        many = [gateway.post("/jobs", b"ada's %d" % number, headers=ada).json()["id"] for number in range(12)]
        until(lambda: free.held == 2)
        other = gateway.post("/jobs", b"bob's", headers=bob).json()["id"]
        free.let_pass.set()
        done = [*(ended(gateway.url, job, ada) for job in many), ended(gateway.url, other, bob)]
    order = [job["id"] for job in sorted(done, key=lambda job: str(job["started"]))]
    assert order.index(other) < 8


def test_old_and_large_results_are_forgotten(tmp_path: Path) -> None:
    """Finished jobs go when they are too old, and the oldest when all together are too large."""
    tables = database.connect(database.address(None, tmp_path))
    store, ledger = JobStore(tables), Ledger(tables, "executor")
    sizes = []
    for number in range(4):
        job = Job(str(number), "", "", "", "motion", {}, {}, created=time.time())
        store.create(job, 10)
        assert ledger.begin(job.id)
        assert ledger.done(job.id, {"random": list(range(100 * number))})
        sizes.append(store.get(job.id, "").result_bytes)
    store.create(Job("waits", "", "", "", "motion", {}, {}, created=0.0), 10)
    assert store.too_old(0.0, sum(sizes)) == []
    assert store.too_old(0.0, sum(sizes) - 1) == ["0"]
    assert store.too_old(0.0, sizes[3]) == ["2", "1", "0"]
    assert set(store.too_old(time.time() + 1, sum(sizes))) == {"0", "1", "2", "3"}
    store.delete(["0", "1", "waits"])
    assert {job.id for job in store.listed("", None, None, 10)} == {"2", "3", "waits"}
    assert store.result("0") is None
    assert store.result("3") is not None
