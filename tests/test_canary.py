"""Promise: a candidate gets its share of a model's requests, and comes and goes without a failed answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from actionrec_gateway.canary import Canary
from actionrec_gateway.engine import Answer, Engine, Stream
from deploy import gateway
from deploy import server as deploy_server
from tests.conftest import pack
from tests.helpers_supervisor import DEADLINE_SECONDS, eventually
from tests.test_server_lifecycle import Deploy

HANDLER = """
class Named:
    def initialize(self, context): pass
    def handle(self, data, context):
        def label(row):
            body = bytes(row.get("body") or row.get("data") or b"")
            return "same" if body.startswith(b"same") else "{name}"
        return [{{"predictions": [{{"label": label(row), "score": {score}}}]}} for row in data]
"""


class Counting:
    """An engine that notes who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def forward(self, path: str, body: AsyncIterator[bytes], _: Mapping[str, str]) -> Stream:
        self.asked.append(path)
        return Stream(200, (), body)

    async def predict(self, model: str, *_: object, **__: object) -> Answer:
        self.asked.append(model)
        return Answer(200, b"{}")


async def nothing() -> AsyncIterator[bytes]:
    yield b""


def ask(canary: Canary, count: int, path: str = "/predictions/motion") -> None:
    async def all_of_them() -> None:
        for number in range(count):
            await canary.forward(path, nothing(), {"x-request-id": f"request-{number}"})

    asyncio.run(all_of_them())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "canary.json"


def told(file: Path, share: float) -> None:
    file.with_suffix(".new").write_text(json.dumps({"motion": {"to": "next", "share": share}}))
    file.with_suffix(".new").replace(file)


def make(file: Path) -> tuple[Canary, list[str]]:
    counting = Counting()
    engine: Engine = counting  # type: ignore[assignment]  # all that is asked here
    return Canary(engine, file), counting.asked


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share(file: Path, share: float) -> None:
    """So many of the requests go to the candidate, on any of a model's routes; the others stay."""
    told(file, share)
    canary, asked = make(file)
    ask(canary, 2000)
    assert asked.count("/predictions/next") / 2000 == pytest.approx(share, abs=0.03)
    assert set(asked) <= {"/predictions/next", "/predictions/motion"}
    ask(canary, 1, "/explanations/motion")
    assert asked[-1].startswith("/explanations/")


def test_a_request_that_is_sent_again(file: Path) -> None:
    """It goes where it went before; more share takes requests over and gives none back; both ways in agree."""
    told(file, 0.3)
    canary, asked = make(file)
    ask(canary, 200)
    first = list(asked)
    ask(canary, 200)
    assert asked[200:] == first
    told(file, 0.6)
    ask(canary, 200)
    assert all(
        after.endswith("next") for before, after in zip(first, asked[400:], strict=True) if "next" in before
    )
    asyncio.run(canary.predict("motion", b"", {}, request_id="request-7"))
    assert asked[400 + 7].endswith(f"/{asked[-1]}")


def test_what_is_left_alone(file: Path) -> None:
    """Other models, requests that name a version, and all where there is no file, or it was removed."""
    told(file, 1.0)
    canary, asked = make(file)
    for path in ("/predictions/motion/1.0", "/predictions/other"):
        ask(canary, 5, path)
        assert set(asked[-5:]) == {path}
    asyncio.run(canary.predict("motion", b"", {}, request_id="a", version="1.0"))
    assert asked[-1] == "motion"
    file.unlink()
    ask(canary, 5)
    assert set(asked[-5:]) == {"/predictions/motion"}


def test_a_damaged_file(file: Path) -> None:
    """What the file said before holds while it cannot be read."""
    told(file, 1.0)
    canary, asked = make(file)
    ask(canary, 1)
    for text in ("", "[]", '{"motion": 3}', '{"motion": {"to": "next"}}'):
        time.sleep(0.01)
        file.write_text(text)
        ask(canary, 1)
        assert asked[-1] == "/predictions/next"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """A server of two models, and its gateway."""
    store = tmp_path_factory.mktemp("canary") / "model_store"
    for name, score in (("old", 0.5), ("new", 0.75)):
        pack(name, HANDLER.format(name=name, score=score), store)
    up = Deploy(tmp_path_factory.mktemp("up"), store)
    started = up("start", "--gateway", "--gateway-port", "0", "--no-supervisor")
    assert started.returncode == 0, started.stderr
    yield up
    deploy_server.stop(up.run_dir, 0.0)


@pytest.fixture
def videos(tmp_path: Path) -> Callable[[int, int], Path]:
    """Makes a folder of videos that both models call the same, and of others."""

    def make(same: int, other: int) -> Path:
        for number in range(same + other):
            (tmp_path / f"{number:02}.mp4").write_bytes(b"same" if number < same else b"other")
        return tmp_path

    return make


@pytest.mark.server
def test_to_and_fro(up: Deploy, videos: Callable[[int, int], Path]) -> None:
    """Compared, started, promoted and taken back, each by one command, under load: every answer is a 200."""
    beside = gateway.load(up.run_dir)
    assert beside is not None
    answers: list[tuple[int, str]] = []
    end = threading.Event()

    def send() -> None:
        while not end.is_set():
            reply = requests.post(f"{beside.url}/predictions/old", b"clip", timeout=DEADLINE_SECONDS)
            answers.append((reply.status_code, reply.json()["predictions"][0]["label"] if reply.ok else ""))

    def last(count: int = 60) -> set[str]:
        wanted = len(answers) + count
        eventually(lambda: len(answers) >= wanted, "no answers come")
        return {label for _, label in answers[-count + 10 :]}  # some were in flight when the command ended

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert last() == {"old"}
        refused = up("canary", "start", "old", "--to", "new", "--videos", str(videos(9, 1)))
        assert refused.returncode == 1
        assert "10 videos: the same label for 90.0%, scores differ by 0.250" in refused.stdout
        assert "new agrees with old in 90.0% only" in refused.stderr
        assert last() == {"old"}, "it was refused"
        agreed = ("--videos", str(videos(9, 1)), "--least", "0.9", "--share", "0.5")
        assert up("canary", "start", "old", "--to", "new", *agreed).returncode == 0
        assert last() == {"old", "new"}
        assert up("canary", "show").stdout == "old: 50% of its requests are answered by new\n"
        assert up("canary", "promote", "old").returncode == 0
        assert last() == {"new"}
        assert up("canary", "back", "old").returncode == 0
        assert last() == {"old"}
    finally:
        end.set()
        thread.join()
    assert {status for status, _ in answers} == {200}
    shown = requests.get(f"{beside.url}/metrics", timeout=30).text
    for served in ("old", "new"):
        assert f'actionrec_canary_seconds_count{{model="old",served="{served}",status="200"}}' in shown


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("start", "old"), "which model may answer for old"),
        (("start", "old", "--to", "new", "--share", "2"), "for what share"),
        (("start", "old", "--to", "missing"), "missing is not served; served are new, old"),
        (("start",), "of which model?"),
        (("promote", "old"), "old has no candidate"),
        (("compare", "old", "--to", "new"), "there is no video"),
    ],
)
def test_mistakes(up: Deploy, arguments: tuple[str, ...], says: str) -> None:
    """What cannot be done is said in one line, and changes nothing."""
    done = up("canary", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert up("canary", "show").stdout == "No model has a candidate.\n"
