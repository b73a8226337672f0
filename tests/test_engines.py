"""Promise: an archive runs without TorchServe, in a process of one's own and in others' servers."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from actionrec.errors import ClipError
from actionrec.service import Reply, Row

from actionrec_engines.archive import Archive
from actionrec_engines.in_process import Turns
from actionrec_engines.rows import RowEngine
from motion.clips import random_clip
from tests.conftest import DEADLINE_SECONDS, PROJECT
from tests.helpers_engines import running
from tests.helpers_jobs import free_port

CLIP = random_clip(11, "moving left")
CONFIG = PROJECT / "actionrec_engines" / "config"


def test_an_archive_is_unpacked_once(motion_archive: Path, tmp_path: Path) -> None:
    """The same bytes, under any name, have one folder; what is no archive has none, and says so."""
    first = Archive.open(motion_archive, tmp_path / "cache")
    assert first.manifest.name == "motion"
    assert (first.rows, first.waiting) == (4, 64)
    (first.directory / "mark").touch()
    copy = tmp_path / "copy.mar"
    shutil.copy(motion_archive, copy)
    assert Archive.open(copy, tmp_path / "cache").directory == first.directory
    assert (first.directory / "mark").exists()
    broken = tmp_path / "broken.mar"
    broken.write_bytes(motion_archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is no archive"):
        Archive.open(broken, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.digest]


@pytest.fixture
def one_process(tmp_path: Path, motion_archive: Path) -> Iterator[str]:
    """The gateway and the model in one process: its address."""
    port = free_port()
    given = "--port", str(port), "--run-dir", str(tmp_path / "run"), str(motion_archive)
    with running(tmp_path, "in_process", f"http://127.0.0.1:{port}", *given) as url:
        yield url


def test_one_process_is_a_whole_service(one_process: str) -> None:
    """Predictions, options in the address, health, metrics and a job, without TorchServe."""

    def ask(method: str, path: str, data: bytes | None = None) -> requests.Response:
        return requests.request(method, one_process + path, data=data, timeout=DEADLINE_SECONDS)

    reply = ask("POST", "/predictions/motion?top_k=1", CLIP.data).json()
    assert [each["label"] for each in reply["predictions"]] == [CLIP.label]
    assert ask("GET", "/ready").json() == {"status": "ready", "models": ["motion"]}
    assert b'waiting{model="motion"} 0' in ask("GET", "/metrics").content
    job = ask("POST", "/jobs?model=motion", CLIP.data)
    assert job.status_code in (200, 201, 202), job.text


class Slow:
    """A service that takes its time, and counts."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.others_wait: Any = None

    def answer(self, rows: list[Row]) -> list[Reply]:
        self.calls.append([row.request_id for row in rows])
        asyncio.run(asyncio.sleep(0.05))
        return [Reply(200, row.request_id.encode()) for row in rows]

    def close(self) -> None:
        """Nothing is open."""


def test_turns() -> None:
    """A call has what waits; each row gets its reply, one that is gone costs nothing, too many are refused."""
    service = Slow()

    async def crowd() -> list[Reply]:
        async with Turns(service, rows=3, waiting=5) as turns:  # type: ignore[arg-type]
            engine = RowEngine({"slow": turns})
            first = asyncio.create_task(turns.answer(Row(request_id="0")))
            await asyncio.sleep(0.02)
            others = [asyncio.create_task(turns.answer(Row(request_id=str(n)))) for n in range(1, 6)]
            await asyncio.sleep(0)
            assert service.others_wait()
            assert await engine.waiting() == {"slow": 5}
            with pytest.raises(ClipError) as refused:
                await turns.answer(Row(request_id="6"))
            assert refused.value.status == 503
            others.pop(1).cancel()
            return list(await asyncio.gather(first, *others))

    replies = asyncio.run(crowd())
    assert [reply.body for reply in replies] == [b"0", b"1", b"3", b"4", b"5"]
    assert service.calls == [["0"], ["1", "3"], ["4", "5"]]


def test_a_call_that_fails_is_answered() -> None:
    """Nobody waits for ever where the core raises, which it promises not to; the next call is tried."""

    class Broken(Slow):
        def answer(self, rows: list[Row]) -> list[Reply]:
            if not self.calls:
                self.calls.append([])
                raise ZeroDivisionError
            return super().answer(rows)

    async def ask() -> list[Reply]:
        async with Turns(Broken(), rows=3, waiting=5) as turns:  # type: ignore[arg-type]
            return [await turns.answer(Row(request_id=name)) for name in ("first", "second")]

    first, second = asyncio.run(ask())
    assert (first.status, json.loads(first.body)["request_id"]) == (500, "first")
    assert second == Reply(200, b"second")


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module for Triton, with a stand-in for what Triton brings: its tensors are numpy's."""
    stand_in = SimpleNamespace(
        get_input_tensor_by_name=lambda request, name: request[name],
        Tensor=lambda name, values: (name, values),
        InferenceResponse=lambda output_tensors: dict(output_tensors),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    monkeypatch.delitem(sys.modules, "actionrec_engines.triton_model", raising=False)
    return importlib.import_module("actionrec_engines.triton_model")


def test_triton(
    triton: ModuleType, motion_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of Triton's, of one row and of several, get their replies and statuses in their shape."""
    opened = Archive.open(motion_archive, tmp_path)
    loaded: list[tuple[object, ...]] = []

    class Opened:
        def load(self, *given: object) -> Any:  # noqa: ANN401
            from actionrec.pipeline import Classifier
            from actionrec.service import Service

            loaded.append(given)
            return Service(Classifier.load(opened.directory))  # `Service.load` is for a process of its own

    monkeypatch.setattr(triton.Archive, "open", lambda _: Opened())
    model = triton.TritonPythonModel()
    config = {"max_batch_size": 8, "parameters": {"archive": {"string_value": str(motion_archive)}}}
    model.initialize(
        {"model_config": json.dumps(config), "model_instance_kind": "CPU", "model_instance_device_id": "0"}
    )
    assert loaded == [("cpu", 8)]
    asked = [[[CLIP.data]], [[b"no video"], [CLIP.data]]]
    requests_ = [
        {"body": SimpleNamespace(as_numpy=lambda rows=rows: np.array(rows, dtype=object))} for rows in asked
    ]
    one, two = model.execute(requests_)
    model.finalize()
    assert one["status"].tolist() == [[200]]
    assert two["status"].tolist() == [[415], [200]]
    assert json.loads(one["reply"][0, 0])["predictions"][0]["label"] == CLIP.label
    assert json.loads(two["reply"][0, 0])["error"]["code"] == "NOT_A_VIDEO"


def test_triton_s_configuration(triton: ModuleType) -> None:
    """The committed configuration has the tensors and the parameter that the module asks for."""
    text = (CONFIG / "triton.pbtxt").read_text()
    source = Path(str(triton.__file__)).read_text()
    for name in ("body", "reply", "status"):
        assert f'name: "{name}"' in text
        assert f'"{name}"' in source
    assert 'key: "archive"' in text
