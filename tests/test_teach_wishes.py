"""Promise: a running server takes up an archive that is asked for, and no wish leaves it without its models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from actionrec.errors import ClipError

from actionrec_gateway.page.teach.serve import serve
from actionrec_gateway.settings import Settings
from actionrec_gateway.torchserve import TorchServe
from deploy import server as deploy_server
from deploy import wishes
from deploy.state import State, wishes_file
from tests.conftest import PROJECT, pack
from tests.helpers_supervisor import eventually
from tests.test_server_lifecycle import ECHO, RAISES, Deploy

SERVED = pytest.mark.server


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """A server of one archive, and its supervisor."""
    home = tmp_path_factory.mktemp("up")
    pack("echo", ECHO, home / "model_store")
    up = Deploy(home, home / "model_store")
    started = up("start", "--model", "echo")
    assert started.returncode == 0, started.stderr
    yield up
    deploy_server.stop(up.run_dir, 0.0)


def ask(state: State, name: str, wishes: Path | None) -> str:
    """What the gateway does to have an archive served; the code of its error, or nothing."""

    async def asked() -> str:
        engine = TorchServe(Settings(engine=state.inference_url, management=state.management_url))
        try:
            await serve(engine, name, wishes)
        except ClipError as error:
            return f"{error.code}: {error.message}"
        finally:
            await engine.close()
        return ""

    return asyncio.run(asked())


def predicts(state: State, name: str) -> bool:
    try:
        reply = requests.post(state.predict_url(name), data=b"clip", timeout=60)
    except requests.ConnectionError:
        return False
    return reply.ok and "predictions" in reply.json()


@pytest.mark.parametrize("name", ["../echo", "", ".hidden", "a b", 7, None])
def test_a_name_that_is_none(tmp_path: Path, name: object) -> None:
    """A wish can name an archive of the store, and nothing else."""
    wishes_file(tmp_path).write_text(json.dumps({"name": name, "state": "wanted"}))
    assert wishes.wanted(tmp_path) is None
    wishes_file(tmp_path).write_text("[")
    assert wishes.wanted(tmp_path) is None
    wishes_file(tmp_path).write_text(json.dumps({"name": "mine", "state": "wanted"}))
    assert wishes.wanted(tmp_path) == "mine"


@SERVED
def test_without_a_supervisor_it_says_so(up: Deploy) -> None:
    """Where TorchServe registers nothing and nobody can be asked, the error says what to do."""
    assert ask(up.state(), "echo", None).startswith("NOT_WHILE_IT_RUNS")


@SERVED
def test_what_is_not_in_the_store_costs_nothing(up: Deploy) -> None:
    """An archive that is not there, or has no checksum, is refused while the server goes on."""
    before = up.state()
    assert "nothing" in ask(before, "nothing", wishes_file(up.run_dir))
    (up.store / "loose.mar").write_bytes((up.store / "echo.mar").read_bytes())
    assert "NOT_LOADED: loose is not served" in ask(before, "loose", wishes_file(up.run_dir))
    assert up.state() == before
    assert not wishes_file(up.run_dir).exists()


@SERVED
def test_an_archive_that_does_not_load(up: Deploy) -> None:
    """It is refused with the reason, and the server comes back as it was."""
    pack("raises", RAISES, up.store)
    before = up.state()
    said = ask(before, "raises", wishes_file(up.run_dir))
    assert "the weights are of another model" in said
    eventually(lambda: predicts(before, "echo"), "it does not come back")
    assert up.state().models == ("echo",)


@SERVED
def test_where_the_operator_lets_it(tmp_path: Path) -> None:
    """With TorchServe's model API on, an archive is registered at once; one that does not load is told."""
    config = tmp_path / "config.properties"
    text = (PROJECT / "config.properties").read_text(encoding="utf-8")
    config.write_text(text.replace("enable_model_api=false", "enable_model_api=true"))
    store = tmp_path / "model_store"
    for name, handler in (("echo", ECHO), ("second", ECHO), ("raises", RAISES)):
        pack(name, handler, store)
    deploy = Deploy(tmp_path, store)
    started = deploy("start", "--model", "echo", "--config", str(config))
    assert started.returncode == 0, started.stderr
    try:
        before = deploy.state()
        assert ask(before, "second", wishes_file(deploy.run_dir)) == ""
        assert ask(before, "second", None) == ""  # it has it already
        assert predicts(before, "second")
        eventually(lambda: deploy.state().models == ("echo", "second"), "the next start would not know it")
        assert deploy.state().process == before.process
        assert ask(before, "raises", None).startswith("NOT_LOADED: raises could not be loaded")
    finally:
        deploy_server.stop(deploy.run_dir, 0.0)
