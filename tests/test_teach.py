"""Promise: only who may has the server learn; his videos are kept within limits, under names of the gateway."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import requests

from actionrec_gateway.page.files import FOLDER
from actionrec_gateway.page.teach.learning import Learning
from actionrec_gateway.page.teach.videos import Videos
from export.learn.data import LEAST_VIDEOS
from tests.conftest import DEADLINE_SECONDS, RunningServer
from tests.helpers_gateway import Guarded, RunningGateway, running
from tests.helpers_inside import Client, Engine, FullDisk, refused, run
from tests.helpers_processes import command
from tests.test_gateway_through import error_of

pytest_plugins = ("tests.fixtures_gateway",)

TEACH = "/page/teach"
MOST_BYTES, MOST_VIDEO_BYTES = 5000, 3000
SPANS = [
    {"video": f"{label}{number}.mp4", "label": label, "start_seconds": 0.0, "end_seconds": 2.0}
    for label in ("waving", "nodding")
    for number in range(2)
]


@pytest.fixture(scope="module")
def school(
    tmp_path_factory: pytest.TempPathFactory, motion_server: RunningServer, motion_archive: Path
) -> Iterator[RunningGateway]:
    """A gateway that knows the archives, with little room for videos."""
    with running(tmp_path_factory.mktemp("school"), *addresses(motion_server), *store(motion_archive)) as found:
        yield found


def addresses(server: RunningServer) -> tuple[str, str]:
    return server.inference_url, server.management_url


def store(archive: Path) -> tuple[str, ...]:
    limits = ("--teach-bytes", str(MOST_BYTES), "--teach-video-bytes", str(MOST_VIDEO_BYTES))
    return ("--model-store", str(archive.parent), *limits)


def teaching(gateway: RunningGateway, **headers: str) -> dict[str, Any]:
    reply = gateway.get(TEACH, headers=headers)
    assert reply.status_code == 200
    return dict(reply.json())


def send(gateway: RunningGateway, name: str, data: bytes) -> requests.Response:
    return requests.put(
        f"{gateway.url}{TEACH}/videos", data=data, params={"name": name}, timeout=DEADLINE_SECONDS
    )


def ask(gateway: RunningGateway, method: str, what: str, **more: Any) -> requests.Response:  # noqa: ANN401
    return requests.request(method, f"{gateway.url}{TEACH}/{what}", timeout=DEADLINE_SECONDS, **more)


def begin(gateway: RunningGateway, name: str = "mine", **more: str) -> requests.Response:
    return ask(gateway, "POST", "learning", json={"name": name, "model": "motion", **more})


def mark(gateway: RunningGateway, spans: list[dict[str, Any]]) -> None:
    address = gateway.url + "/page/labels"
    revision = requests.get(address, timeout=DEADLINE_SECONDS).json()["revision"]
    sent = {"revision": revision, "spans": spans}
    assert requests.put(address, json=sent, timeout=DEADLINE_SECONDS).status_code == 200


def kept(gateway: RunningGateway) -> list[Path]:
    """The files of all videos."""
    return sorted((gateway.home / "run" / "teach").glob("*/videos/*"))


def learner(gateway: RunningGateway) -> psutil.Process:
    """The process that learns, which has just been begun."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        for one in psutil.Process(gateway.process.pid).children():
            if command(one)[1:4] == ["-m", "export", "learn"]:
                return one
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.server
def test_videos_are_kept_within_limits(school: RunningGateway) -> None:
    """A name is no path; one of the same name is replaced; too large, too many and empty ones are refused."""
    name = "../../../a, b.mp4"
    assert error_of(send(school, "large.mp4", bytes(MOST_VIDEO_BYTES + 1))) == (413, "TOO_LARGE")
    assert send(school, name, b"first").json() == {"name": name, "bytes": 5}
    assert send(school, name, bytes(2500)).status_code == 200
    (file,) = kept(school)
    assert file.read_bytes() == bytes(2500)
    assert "mp4" not in file.name
    assert teaching(school)["videos"] == [{"name": name, "bytes": 2500}]
    assert error_of(send(school, "many.mp4", bytes(2600))) == (413, "TOO_MANY_VIDEOS")
    chunks = (bytes(1300) for _ in range(2))  # whose length nobody says before
    assert error_of(send(school, "many.mp4", chunks)) == (413, "TOO_MANY_VIDEOS")  # type: ignore[arg-type]
    assert error_of(send(school, "empty.mp4", b"")) == (400, "EMPTY_BODY")
    assert error_of(send(school, "", b"first")) == (422, "BAD_REQUEST")
    assert kept(school) == [file]
    assert ask(school, "DELETE", "videos").status_code == 204
    assert kept(school) == []
    assert teaching(school)["videos"] == []


@pytest.mark.server
def test_who_may(school: RunningGateway, guarded: Guarded) -> None:
    """Without tokens, who sits at the machine: no name that leads there, and nobody behind a proxy."""
    assert teaching(school)["can"] == "learn"
    for headers in ({"Host": "clips.example.org"}, {"X-Forwarded-For": "192.0.2.7"}, {"Via": "1.1 front"}):
        assert teaching(school, **headers) == {**teaching(school, **headers), "can": "denied", "models": []}
        for method, what in (("PUT", "videos?name=a"), ("DELETE", "videos"), ("DELETE", "learning")):
            assert error_of(ask(school, method, what, headers=headers)) == (403, "FORBIDDEN")
        wanted = {"name": "mine", "model": "motion"}
        assert error_of(ask(school, "POST", "learning", json=wanted, headers=headers)) == (403, "FORBIDDEN")
        assert error_of(ask(school, "POST", "serving", headers=headers)) == (403, "FORBIDDEN")
    assert error_of(guarded.gateway.get(TEACH)) == (401, "UNAUTHORIZED")
    assert error_of(ask(guarded.gateway, "POST", "serving", headers=guarded.bob)) == (403, "FORBIDDEN")


@pytest.mark.server
def test_administrators_may(
    tmp_path: Path, motion_server: RunningServer, motion_archive: Path, guarded: Guarded
) -> None:
    """With tokens it is for administrators, wherever they are; others are told so, and see no videos."""
    options = (*store(motion_archive), "--tokens", str(guarded.gateway.home / "tokens"), "--admins", "ada")
    with running(tmp_path, *addresses(motion_server), *options) as gateway:
        assert teaching(gateway, **guarded.ada, Host="clips.example.org")["can"] == "learn"
        assert teaching(gateway, **guarded.bob)["can"] == "denied"
        assert error_of(ask(gateway, "PUT", "videos?name=a", headers=guarded.bob)) == (403, "FORBIDDEN")


@pytest.mark.server
def test_a_host_that_cannot_learn(gateway: RunningGateway) -> None:
    """Where the program or the archives are not, the page is told, and nothing is begun."""
    assert teaching(gateway)["can"] == "absent"
    assert error_of(begin(gateway)) == (409, "CANNOT_LEARN")
    assert error_of(ask(gateway, "POST", "serving")) == (409, "CANNOT_LEARN")


@pytest.mark.server
def test_what_cannot_be_begun(school: RunningGateway) -> None:
    """Nothing marked, a name that is taken or none, another model, a video that is not here: each says so."""
    mark(school, [])
    assert error_of(begin(school)) == (400, "NO_LABELS")
    assert error_of(begin(school, name="motion")) == (409, "NAME_TAKEN")
    assert error_of(begin(school, name="../mine")) == (422, "BAD_REQUEST")
    assert error_of(begin(school, model="nothing")) == (404, "MODEL_NOT_FOUND")
    mark(school, SPANS)
    reply = begin(school)
    assert error_of(reply) == (409, "VIDEOS_MISSING")
    assert "nodding0.mp4, nodding1.mp4, waving0.mp4 and 1 more" in reply.json()["error"]["message"]
    assert error_of(ask(school, "DELETE", "learning")) == (404, "NOT_LEARNING")
    assert error_of(ask(school, "POST", "serving")) == (409, "NOT_LEARNED")


@pytest.mark.server
def test_what_fails_says_why(school: RunningGateway) -> None:
    """Too few videos of a label: the words of `make learn`. Meanwhile no second run, no change of videos."""
    mark(school, SPANS)
    for span in SPANS:
        assert send(school, str(span["video"]), str(span["video"]).encode()).status_code == 200
    assert begin(school).status_code == 202
    assert error_of(begin(school, name="other")) == (409, "LEARNING_ALREADY")
    assert error_of(send(school, "a.mp4", b"a")) == (409, "LEARNING_ALREADY")
    assert error_of(ask(school, "DELETE", "videos")) == (409, "LEARNING_ALREADY")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (learning := teaching(school)["learning"])["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert learning["state"] == "failed"
    assert learning["error"]["message"].startswith(
        "a label needs 5 different videos: nodding has 2, waving has 2"
    )
    assert learning["error"]["hint"]
    assert error_of(school.get(f"{TEACH}/report?of={32 * '0'}&ticket=a")) == (404, "NOT_FOUND")


@pytest.mark.server
def test_a_gateway_that_ends_takes_its_run_with_it(
    tmp_path: Path, motion_server: RunningServer, motion_archive: Path
) -> None:
    """Cancelled, or with a gateway that is told to end, no process stays; the next gateway knows how it was."""
    options = store(motion_archive)
    with running(tmp_path, *addresses(motion_server), *options) as gateway:
        mark(gateway, SPANS)
        for span in SPANS:
            assert send(gateway, str(span["video"]), str(span["video"]).encode()).status_code == 200
        assert begin(gateway).status_code == 202
        first = learner(gateway)
        assert first.nice() > psutil.Process(gateway.process.pid).nice()
        assert ask(gateway, "DELETE", "learning").json()["state"] == "cancelled"
        assert not first.is_running()
        assert (
            ask(
                gateway, "POST", "learning", json={"name": "mine", "model": "motion", "method": "x"}
            ).status_code
            == 422
        )
        assert begin(gateway, method="finetune").json()["method"] == "finetune"
        second = learner(gateway)
        assert "--method finetune" in " ".join(command(second))
    assert not second.is_running()
    with running(tmp_path, *addresses(motion_server), *options) as gateway:
        assert teaching(gateway)["learning"]["state"] == "stopped"
        assert len(teaching(gateway)["videos"]) == len(SPANS)


def test_the_page_asks_for_as_many_videos_as_learning_does() -> None:
    """The number that the page names is that of `make learn`."""
    found = re.search(r"LEAST_VIDEOS = (\d+);", (FOLDER / "labelfiles.js").read_text(encoding="utf-8"))
    assert found is not None
    assert int(found[1]) == LEAST_VIDEOS


def test_what_is_counted_is_one_line() -> None:
    """Lines of the run become steps; what is counted stays one, and a run without end keeps few."""
    learning = Learning(name="mine", model="motion")
    learning.tell({"event": "note", "message": "a note"})
    for done in range(1, 4):
        learning.tell({"event": "embedded", "message": "looking", "done": done, "total": 3})
    assert [(step.event, step.done) for step in learning.steps] == [("note", None), ("embedded", 3)]
    learning = Learning(name="mine", model="motion", method="finetune")
    for fold in range(1, 6):
        for done in range(1, 100):
            learning.tell({"event": "trained", "message": f"fold {fold}", "done": done, "total": 100})
            learning.tell({"event": "epoch", "message": f"fold {fold}, epoch {done}"})
    found = [(step.event, step.text, step.done) for step in learning.steps]
    assert found == [("epoch", "fold 5, epoch 99", None), ("trained", "fold 5", 99)]
    for number in range(1000):
        learning.tell({"event": "left_out", "message": f"left out: {number}"})
    assert len(learning.steps) == 200
    with pytest.raises(KeyError):
        learning.tell({"event": "learned"})


def test_a_report_opens_with_its_own_secret(tmp_path: Path) -> None:
    """Neither no ticket nor another's opens a report; it survives the gateway."""
    learning = Learning(name="mine", model="motion")
    assert not learning.is_ticket("")
    learning.give_report(32 * "a")
    assert learning.report is not None
    ticket = learning.report.partition("&ticket=")[2]
    assert len(ticket) >= 40
    learning.save(tmp_path)
    again = Learning.load(tmp_path)
    assert again is not None
    assert again.is_ticket(ticket)
    assert not again.is_ticket("")
    assert not again.is_ticket(ticket[:-1])
    assert json.loads((tmp_path / "learning.json").read_text())["report"] == learning.report


def test_a_full_disk_keeps_nothing_half(
    tmp_path: Path, motion_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up while a video comes, or is too small at once: 507, and the video before stays."""
    disk, here = FullDisk(monkeypatch, 3 << 20), f"http://127.0.0.1{TEACH}"

    async def test(client: Client, _: Engine) -> None:
        async def put(data: bytes) -> httpx.Response:
            return await client.put(f"{here}/videos", params={"name": "a.mp4"}, content=data)

        assert (await put(bytes(1000))).status_code == 200
        assert refused(await put(bytes(5 << 20))) == (507, "NO_ROOM")
        disk.room = 1 << 30
        monkeypatch.setattr(Videos, "disk_bytes", lambda *_: 1000)
        assert refused(await put(bytes(2000))) == (507, "NO_ROOM")
        assert (await client.get(here)).json()["videos"] == [{"name": "a.mp4", "bytes": 1000}]
        (file,) = tmp_path.glob("teach/*/videos/*")
        assert file.stat().st_size == 1000

    run(tmp_path, test, model_store=motion_archive.parent)
