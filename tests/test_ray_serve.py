"""Promise: on Ray Serve the models are batched, watched, drained, and replaced where they are lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml
from actionrec.errors import ClipError
from actionrec.service import Reply, Row
from ray.exceptions import RayError
from ray.serve.schema import ServeDeploySchema

from actionrec_engines import ray_serve
from actionrec_engines.archive import Archive
from motion.clips import random_clip
from tests.conftest import DEADLINE_SECONDS, PROJECT
from tests.helpers_engines import running
from tests.helpers_jobs import free_port, until
from tests.helpers_processes import command

CLIP = random_clip(11, "moving left")
CONFIG = PROJECT / "actionrec_engines" / "config"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, motion_archive: Path) -> Iterator[str]:
    """The motion model on Ray Serve: its address."""
    home, port = tmp_path_factory.mktemp("ray"), free_port()
    given = "--port", str(port), "--run-dir", str(home / "run"), str(motion_archive)
    with running(home, "ray_serve", f"http://127.0.0.1:{port}", *given) as url:
        yield url


def predict(url: str, options: str = "") -> requests.Response:
    return requests.put(f"{url}/predictions/motion{options}", CLIP.data, timeout=DEADLINE_SECONDS)


def test_every_request_of_a_crowd_is_answered(served: str) -> None:
    """Forty at once get their label, or are told to come again; they come in fewer calls than one each."""
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda _: predict(served), range(40)))
    assert {reply.status_code for reply in replies} <= {200, 503}
    labels = {reply.json()["predictions"][0]["label"] for reply in replies if reply.status_code == 200}
    assert labels == {CLIP.label}


def test_the_gateway_s_routes(served: str) -> None:
    """Readiness, versions, and other platforms' contracts are there as in front of TorchServe."""
    assert requests.get(f"{served}/ready", timeout=DEADLINE_SECONDS).json()["models"] == ["motion"]
    assert requests.get(f"{served}/v1/models/motion", timeout=DEADLINE_SECONDS).json()["ready"] is True
    for path, status in (("motion/1.0", 200), ("motion/9.9", 404), ("other", 404)):
        reply = requests.put(f"{served}/predictions/{path}", CLIP.data, timeout=DEADLINE_SECONDS)
        assert reply.status_code == status
    missing = requests.get(f"{served}/management/models", timeout=DEADLINE_SECONDS)
    assert missing.json()["error"]["status"] == missing.status_code


def test_a_killed_replica_is_replaced(served: str) -> None:
    """A replica that is killed costs what it had in flight, as a 503; another takes its place."""
    assert predict(served).status_code == 200
    found = replicas()
    assert found
    for process in found:
        os.kill(process.pid, signal.SIGKILL)
    seen = set()

    def answers() -> bool:
        seen.add(predict(served).status_code)
        return 200 in seen

    until(answers)
    assert seen <= {200, 503}


def replicas() -> list[psutil.Process]:
    """The processes of the model's replicas that this test process has started."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "ServeReplica:actionrec:motion" in " ".join(command(child))]


def test_what_is_in_flight_is_answered_before_the_end(tmp_path: Path, motion_archive: Path) -> None:
    """Whoever has asked when the application is to end gets his answer."""
    port = free_port()
    given = "--port", str(port), "--run-dir", str(tmp_path / "run"), str(motion_archive)
    with ThreadPoolExecutor(1) as pool:
        with running(tmp_path, "ray_serve", f"http://127.0.0.1:{port}", *given) as url:
            # One that takes its time. Of several, some would be put aside.
            asked = pool.submit(predict, url, "?views=64")
            metrics = f"{url}/metrics"
            one = b"actionrec_requests_in_flight 1.0"
            until(lambda: one in requests.get(metrics, timeout=DEADLINE_SECONDS).content)
            assert not asked.done()
        assert asked.result().status_code == 200


class Fake:
    """A service with one answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.reply, self.calls = Reply(status, body), list[int]()
        self.others_wait: Callable[[], bool] | None = None

    def answer(self, rows: list[Row]) -> list[Reply]:
        self.calls.append(len(rows))
        time.sleep(0.05)  # so that others come meanwhile
        return [self.reply] * len(rows)


def replica(fake: Fake, monkeypatch: pytest.MonkeyPatch, rows: int = 4) -> Any:  # noqa: ANN401
    """A replica of a fake service, in this process."""

    class Opened:
        manifest = type("Manifest", (), {"name": "motion"})
        waiting = 64

        def load(self, device: str, rows: int) -> Fake:
            del device, rows
            return fake

    monkeypatch.setattr(Archive, "open", lambda _: Opened())
    return ray_serve.Replica("motion.mar", rows, gpu=False)


LEFT = b'{"predictions": [{"label": "moving left", "score": 0.9}]}'
RIGHT = LEFT.replace(b"left", b"right")


@pytest.mark.parametrize(
    ("status", "body", "well"), [(200, RIGHT, True), (200, LEFT, False), (500, b"", False)]
)
def test_health_is_a_real_prediction(
    status: int, body: bytes, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica is well where it gives a clip of known content its label, and not where it gives another."""

    async def check() -> None:  # a replica belongs to the loop that it is made in
        await replica(Fake(status, body), monkeypatch).check_health()

    if well:
        asyncio.run(check())
    else:
        with pytest.raises(RuntimeError, match="does not predict"):
            asyncio.run(check())


def test_what_waits_goes_into_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that wait while a call runs share the next one, up to the archive's number of rows."""
    fake = Fake(200, RIGHT)

    async def crowd() -> None:
        tried = replica(fake, monkeypatch)
        first = asyncio.create_task(tried.answer(Row()))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, *(tried.answer(Row()) for _ in range(6)))

    asyncio.run(crowd())
    assert fake.calls == [1, 4, 2]


def test_a_handle_that_fails_is_a_503() -> None:
    """A full queue and a lost replica are told as the gateway tells them of TorchServe."""

    class Broken:
        def __getattr__(self, _: str) -> Broken:
            return self

        async def remote(self, *_: object) -> None:
            raise RayError("the replica is gone")

    with pytest.raises(ClipError) as refused:
        asyncio.run(ray_serve.Handle(Broken(), 1.0).answer(Row()))  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.code) == (503, "UNAVAILABLE")


def test_the_configurations() -> None:
    """What is committed for `serve deploy` and for KubeRay is what Ray and this project take."""
    plain = yaml.safe_load((CONFIG / "serve.yaml").read_text())
    nested = yaml.safe_load((CONFIG / "kuberay.yaml").read_text())["spec"]["serveConfigV2"]
    for config in (plain, yaml.safe_load(nested)):
        application = ServeDeploySchema.model_validate(config).applications[0]
        assert application.import_path == "actionrec_engines.ray_serve:build"
        arguments = ray_serve.Arguments.model_validate(application.args)
        assert arguments.models["slowfast_r50"].gpus == 0.25
    assert (
        yaml.safe_load(nested)["applications"][0]["args"]["models"]
        == plain["applications"][0]["args"]["models"]
    )
