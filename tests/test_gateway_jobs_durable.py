"""Promise: a job goes on where it was, whatever is killed: parts are answered once, and there is one result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import sqlalchemy as sa

from actionrec_client import ActionClient
from actionrec_gateway.jobs import database, fleet
from deploy import server as deploy_server
from deploy.management import get_models
from deploy.processes import runs
from testing.media import encode, textured_frames
from tests.conftest import DEADLINE_SECONDS, PROJECT, RunningServer
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_jobs import CountingEngine, Postgres, counting, ended, job_at, postgres, until

pytestmark = [pytest.mark.server, pytest.mark.long]

Pair = tuple[CountingEngine, Callable[[], RunningGateway]]


def kill(gateway: RunningGateway) -> None:
    """SIGKILL: nothing of it runs any more."""
    gateway.process.kill()
    gateway.process.wait()


def without_times(reply: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name not in ("timings_ms", "request_id", "page")}


@contextmanager
def _own_server(home: Path, archive: Path) -> Iterator[Callable[[], RunningServer]]:
    """Starts a TorchServe, and again where it was killed."""

    def start() -> RunningServer:
        deploy_server.stop(home / "run")
        settings = deploy_server.Settings(
            model_store=archive.parent,
            models=(archive.stem,),
            config=PROJECT / "config.properties",
            run_dir=home / "run",
            log_dir=home / "logs",
            port=0,
            workers=2,
        )
        return RunningServer(deploy_server.start(settings), home / "run")

    try:
        yield start
    finally:
        deploy_server.stop(home / "run")


def test_a_timeline_survives_the_death_of_everything(tmp_path: Path, motion_archive: Path) -> None:
    """Gateway, workers and engine are killed by turns: one result, the library's, no part answered twice."""
    video = encode(textured_frames(64, 48, 5400), fps=10, options={"g": "20"})
    with _own_server(tmp_path, motion_archive) as start, ExitStack() as stack:
        server = start()
        expected = without_times(ActionClient(server.inference_url).timeline(video).to_dict())
        engine = stack.enter_context(counting((server.inference_url, server.management_url)))

        def gateway() -> RunningGateway:
            return stack.enter_context(running(tmp_path / "gateway", engine.url, engine.url))

        def after(answers: int) -> None:
            until(lambda: engine.answered.total() >= answers)
            engine.hold(2)

        one = gateway()
        engine.let_pass.clear()
        reply = one.post("/jobs?stride_seconds=1", video)
        assert reply.status_code == 202, reply.text
        job = reply.json()["id"]
        until(lambda: engine.held == 2)  # nothing is answered yet
        kill(one)
        engine.drop()
        two = gateway()
        after(1)
        kill(two)
        engine.drop()
        three = gateway()
        after(3)
        engine.let_pass.set()
        (model,) = get_models(server.management_url, ["motion"])
        for worker in model.workers:
            process = worker.process()
            assert process is not None
            process.kill()
        after(5)
        os.kill(server.state.process.pid, signal.SIGKILL)
        engine.let_pass.set()
        until(lambda: "engine does not answer" in (job_at(three.url, job)["note"] or ""))
        kill(three)
        server = start()
        engine.behind = (server.inference_url, server.management_url)
        four = gateway()
        assert ended(four.url, job)["state"] == "done"
        parts = [count for what, count in engine.answered.items() if "stride_seconds" in what]  # not the probe
        assert parts == [1] * 9  # 540 windows, 64 a part
        found = four.get(f"/jobs/{job}/results").json()
        assert without_times(found) == expected
        assert four.get("/jobs?state=done").json()["jobs"][0]["progress"]["of"] == len(expected["timeline"])
        assert list((tmp_path / "gateway" / "run" / "uploads").iterdir()) == []


@pytest.fixture(scope="module")
def shared_database() -> Iterator[Postgres]:
    """A PostgreSQL for several gateways."""
    with postgres() as server:
        yield server


@pytest.fixture
def pair(tmp_path: Path, shared_database: Postgres) -> Iterator[Pair]:
    """An engine, and what starts gateways that share a database and a run_dir."""
    with sa.create_engine(database.address(shared_database.url, Path())).begin() as connection:
        connection.execute(
            sa.text("DROP SCHEMA IF EXISTS dbos CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        )
    with counting() as engine, ExitStack() as stack:
        count = iter(range(100))

        def start() -> RunningGateway:
            options = ("--run-dir", str(tmp_path / "shared"), "--jobs-per-client", "300")
            environment = {"DATABASE_URL": shared_database.url}
            home = tmp_path / f"gateway-{next(count)}"
            return stack.enter_context(running(home, engine.url, engine.url, *options, environment=environment))

        yield engine, start


def _sent(gateways: list[RunningGateway], count: int) -> list[str]:
    def send(number: int) -> str:
        reply = gateways[number % len(gateways)].post("/jobs", f"video {number}".encode())
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(send, range(count)))


def _states(gateway: RunningGateway) -> list[str]:
    return [job["state"] for job in gateway.get("/jobs?limit=200").json()["jobs"]]


def test_two_gateways_do_each_of_200_jobs_once(pair: Pair, shared_database: Postgres) -> None:
    """200 jobs at once on two gateways and one PostgreSQL: each is done once, and both have done some."""
    engine, start = pair
    gateways = [start(), start()]
    ids = _sent(gateways, 200)
    assert len(set(ids)) == 200
    until(lambda: set(_states(gateways[0])) == {"done"})
    assert len(_states(gateways[1])) == 200
    assert sorted(engine.asked.values()) == [1] * 200
    with sa.create_engine(database.address(shared_database.url, Path())).connect() as connection:
        runners = connection.execute(
            sa.select(database.JOBS.c.runner, sa.func.count()).group_by("runner")
        ).all()
    assert len(runners) == 2
    assert sum(count for _, count in runners) == 200


def test_the_jobs_of_a_gateway_that_died_are_taken_over(
    pair: Pair,
) -> None:
    """A gateway is killed with jobs that run and jobs that wait: another one does them, each once."""
    engine, start = pair
    one = start()
    engine.let_pass.clear()
    ids = _sent([one], 6)
    until(lambda: engine.held == 2)
    two = start()
    kill(one)
    engine.drop()
    for job_id in ids:
        assert ended(two.url, job_id)["state"] == "done"
    assert set(engine.answered.values()) == {1}
    assert len(engine.answered) == 6


def test_a_gateway_that_was_taken_for_dead_begins_again(
    pair: Pair,
) -> None:
    """One that stood still loses its job to another, writes nothing down for it, and then works as before."""
    engine, start = pair
    one = start()
    engine.let_pass.clear()
    (job_id,) = _sent([one], 1)
    until(lambda: engine.held == 1)
    two = start()
    one.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: engine.held == 2, fleet.SILENT_SECONDS * 4)  # the other one asks
        engine.let_pass.set()
        assert ended(two.url, job_id)["state"] == "done"
    finally:
        one.process.send_signal(signal.SIGCONT)
    until(lambda: any("begins again" in line["event"] for line in one.lines()))
    before = job_at(two.url, job_id)
    kill(two)
    for other in _sent([one], 3):
        assert ended(one.url, other)["state"] == "done"
    assert job_at(one.url, job_id) == before


def test_a_database_that_crashes_loses_nothing(pair: Pair, shared_database: Postgres) -> None:
    """The database is killed while jobs run and answers come: they wait for it, and nothing is asked twice."""
    engine, start = pair
    one = start()
    engine.let_pass.clear()
    ids = _sent([one], 4)
    until(lambda: engine.held == 2)
    shared_database.stop(signal.SIGQUIT)
    engine.let_pass.set()
    until(lambda: engine.answered.total() == 2)
    assert one.get("/jobs").status_code == one.post("/jobs", b"video").status_code == 503
    shared_database.start()
    for job_id in ids:
        assert ended(one.url, job_id)["state"] == "done"
    assert sorted(engine.asked.values()) == [1] * 4


def test_a_job_is_cancelled_at_any_gateway(pair: Pair) -> None:
    """What is cancelled at one gateway ends at the one that works on it."""
    engine, start = pair
    one = start()
    engine.let_pass.clear()
    reply = one.post("/jobs?stride_seconds=1", encode(textured_frames(64, 48, 1500), fps=10))
    until(lambda: engine.held > 0)
    process = psutil.Process(one.process.pid)
    assert len(process.children()) == 1  # it reads the video
    two = start()
    url = f"{two.url}/jobs/{reply.json()['id']}"
    assert requests.delete(url, timeout=DEADLINE_SECONDS).json()["state"] == "cancelled"
    until(lambda: process.children() == [])
    assert job_at(one.url, reply.json()["id"])["state"] == "cancelled"


def test_gateways_without_a_common_folder_take_no_uploads(
    tmp_path: Path, shared_database: Postgres, pair: Pair
) -> None:
    """A video that only one of the gateways has is refused, with what to do; none is lost in silence."""
    engine, start = pair
    one = start()
    environment = {"DATABASE_URL": shared_database.url}
    with running(tmp_path / "apart", engine.url, engine.url, environment=environment) as apart:
        for gateway in (one, apart):
            reply = gateway.post("/jobs", b"video")
            assert (reply.status_code, reply.json()["error"]["code"]) == (409, "NOT_SHARED")
    until(lambda: one.post("/jobs", b"video").status_code == 202)  # when the other is gone


def test_a_gateway_that_is_stopped_leaves_its_jobs_to_its_next_life(tmp_path: Path) -> None:
    """SIGTERM does not wait for jobs and ends none of them: the next start goes on with each."""
    with counting() as engine:
        with running(tmp_path, engine.url, engine.url) as one:
            engine.let_pass.clear()
            ids = _sent([one], 5)
            until(lambda: engine.held == 2)
        assert one.process.returncode == 0
        engine.drop()
        with running(tmp_path, engine.url, engine.url) as two:
            for job_id in ids:
                assert ended(two.url, job_id)["state"] == "done"
        assert set(engine.answered.values()) == {1}


def test_children_end_with_their_gateway(tmp_path: Path) -> None:
    """The process that reads a stranger's video does not outlive a gateway that is killed."""
    video = encode(textured_frames(64, 48, 1500), fps=10)
    with counting() as engine, running(tmp_path, engine.url, engine.url) as gateway:
        engine.let_pass.clear()
        assert gateway.post("/jobs?stride_seconds=1", video).status_code == 202
        until(lambda: engine.held > 0)
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        assert len(children) == 1
        kill(gateway)
        until(lambda: not any(map(runs, children)))
